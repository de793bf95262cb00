"""The routes of the package as its README mounts them, and those that the cases' `views` name."""

from django.conf import settings
from django.urls import include, path

from labapp.me import Me
from labapp.reset import reset

urlpatterns = [path("me/", Me.as_view()), path("_lab/reset/", reset)]

if settings.PACKAGE == "multitoken":
    urlpatterns.append(path("api/auth/", include("drf_multitokenauth.urls")))
elif settings.PACKAGE == "durin":
    from labapp import durin_views

    urlpatterns += [
        path("api/auth/", include("durin.urls")),
        path("only-web/", durin_views.OnlyWeb.as_view()),
        path("only-web-bare/", durin_views.OnlyWebBare.as_view()),
        path("not-cli/", durin_views.NotCli.as_view()),
        path("not-cli-bare/", durin_views.NotCliBare.as_view()),
        path("throttled/", durin_views.Throttled.as_view()),
        path("throttled-open/", durin_views.ThrottledOpen.as_view()),
    ]
elif settings.PACKAGE == "advanced":
    from labapp.plain import plain

    urlpatterns += [path("auth/", include("drf_advanced_token.urls")), path("plain/", plain)]
elif settings.PACKAGE == "djforge":
    from rest_framework.routers import DefaultRouter

    from labapp import djforge_views

    router = DefaultRouter()
    router.register("users", djforge_views.UserViewSet)
    urlpatterns += [
        path("login/", djforge_views.Login.as_view()),
        path("logout/", djforge_views.Logout.as_view()),
        path("logoutall/", djforge_views.LogoutAll.as_view()),
        path("token/", djforge_views.MockView.as_view()),
        path("_lab/ttl/", djforge_views.TimesToLive.as_view()),
        path("", include(router.urls)),
    ]
elif settings.PACKAGE == "restauthtoken":
    urlpatterns.append(path("auth/", include("rest_authtoken.urls")))
elif settings.PACKAGE == "knox":
    from knox.views import LoginView

    from labapp import knox_views

    urlpatterns += [
        path("api/auth/login/", knox_views.BasicLogin.as_view()),
        path("api/auth/password-login/", knox_views.PasswordLogin.as_view()),
        path("api/auth/token-login/", LoginView.as_view()),
        path("api/auth/", include("knox.urls")),
    ]
elif settings.PACKAGE == "drfauthtoken":
    from rest_framework.authtoken.views import obtain_auth_token

    urlpatterns.append(path("api-token-auth/", obtain_auth_token))
