"""A view without DRF, to see what django-drf-advanced-token's middleware does alone."""

from django.http import JsonResponse


def plain(request):
    """Whom the middleware took the request for."""
    user = request.user
    return JsonResponse(
        {"username": user.get_username(), "authenticated": user.is_authenticated, "active": user.is_active}
    )
