"""The two logins that knox's documentation tells its users to write."""

from django.contrib.auth import login
from knox.views import LoginView
from rest_framework.authentication import BasicAuthentication
from rest_framework.authtoken.serializers import AuthTokenSerializer
from rest_framework.permissions import AllowAny


class BasicLogin(LoginView):
    authentication_classes = [BasicAuthentication]


class PasswordLogin(LoginView):
    permission_classes = [AllowAny]

    def post(self, request, format=None):
        serializer = AuthTokenSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        login(request, serializer.validated_data["user"])
        return super().post(request, format=None)
