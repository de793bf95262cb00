"""djforge brings no views: its demo's, the handlers that its README describes, and a window on what Redis holds."""

from django.contrib.auth import authenticate, get_user_model
from django.http import HttpResponse
from djforge_redis_multitokens.tokens_auth import TOKENS_CACHE, MultiToken
from djforge_redis_multitokens.utils import parse_full_token
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response
from rest_framework.serializers import HyperlinkedModelSerializer
from rest_framework.views import APIView
from rest_framework.viewsets import ReadOnlyModelViewSet


class Login(APIView):
    permission_classes = [AllowAny]

    def post(self, request):
        user = authenticate(username=request.data.get("username"), password=request.data.get("password"))
        if user is None:
            return Response({"detail": "Unable to log in with provided credentials."}, 400)
        token, first = MultiToken.create_token(user)
        return Response({"token": token.key, "first_device": first})


class Logout(APIView):
    permission_classes = [IsAuthenticated]

    def post(self, request):
        MultiToken.expire_token(request.auth)
        return Response(status=204)


class LogoutAll(APIView):
    permission_classes = [IsAuthenticated]

    def post(self, request):
        MultiToken.expire_all_tokens(request.user)
        return Response(status=204)


class MockView(APIView):
    permission_classes = [IsAuthenticated]

    def get(self, request):
        return HttpResponse("abc")

    post = put = get


class UserSerializer(HyperlinkedModelSerializer):
    """The four fields that the demo shows of a user."""

    class Meta:
        model = get_user_model()
        fields = ["url", "username", "email", "groups"]


class UserViewSet(ReadOnlyModelViewSet):
    permission_classes = [IsAuthenticated]
    queryset = get_user_model().objects.order_by("-date_joined")
    serializer_class = UserSerializer


class TimesToLive(APIView):
    authentication_classes = []
    permission_classes = [AllowAny]

    def post(self, request):
        _, digest = parse_full_token(request.data["token"])
        user = TOKENS_CACHE.get(digest)
        listed = TOKENS_CACHE.get(user) or []
        return Response(
            {"hash_ttl": TOKENS_CACHE.ttl(digest), "user_ttl": TOKENS_CACHE.ttl(user), "devices": len(listed)}
        )
