"""The one view that every site has besides those of its package."""

from django.conf import settings
from rest_framework.authentication import TokenAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.views import APIView


class Me(APIView):
    # No docstring: DRF would show it to clients, as the description in its answer to OPTIONS.
    permission_classes = [IsAuthenticated]
    # django-drf-advanced-token is set up beside DRF's default of sessions and Basic, and names its own class per view.
    authentication_classes = (
        [TokenAuthentication] if settings.PACKAGE == "advanced" else api_settings.DEFAULT_AUTHENTICATION_CLASSES
    )

    def get(self, request):
        return Response({"username": request.user.username})

    post = get
