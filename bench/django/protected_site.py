"""A protected route behind one of the packages, as its documentation sets it up.

    PEER=durin DIRECTORY=d python protected_site.py 1000    makes the database and prints a header line for each token
    PEER=durin DIRECTORY=d gunicorn protected_site:application

PEER is durin, durin-cached, knox or djforge; djforge wants REDIS, the URL of a Redis server.
"""

import os
import sys

from django.conf import settings

PEER = os.environ["PEER"]
DIRECTORY = os.environ["DIRECTORY"]
AUTHENTICATION = {
    "durin": "durin.auth.TokenAuthentication",
    "durin-cached": "durin.auth.CachedTokenAuthentication",
    "knox": "knox.auth.TokenAuthentication",
    "djforge": "djforge_redis_multitokens.tokens_auth.CachedTokenAuthentication",
}[PEER]
APPS = {"durin": ["durin"], "durin-cached": ["durin"], "knox": ["knox"], "djforge": []}[PEER]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
if PEER == "djforge":
    CACHES["tokens"] = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": os.environ["REDIS"], "TIMEOUT": 3600}
if PEER == "durin-cached":
    # Room for what is in use; by default Django's holds 300.
    CACHES["default"]["OPTIONS"] = {"MAX_ENTRIES": 10_000}

settings.configure(
    DEBUG=False,
    SECRET_KEY="measured, and thrown away",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", *APPS],
    # Which says how long an answer is.
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    CACHES=CACHES,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{DIRECTORY}/db.sqlite3", "CONN_MAX_AGE": None}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [AUTHENTICATION],
        "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    },
)

import django  # noqa: E402

django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.response import Response  # noqa: E402


@api_view(["GET"])
def protected(request):
    return Response({"message": "what only members read", "items": [1, 2, 3]})


urlpatterns = [path("protected", protected)]
application = get_wsgi_application()


def make(count):
    from django.contrib.auth.models import User
    from django.core.management import call_command

    call_command("migrate", verbosity=0, run_syncdb=True)
    users = [User.objects.create(username=f"user-{number}") for number in range(max(1, count // 10))]
    if PEER.startswith("durin"):
        from durin.models import AuthToken, Client

        clients = [Client.objects.create(name=f"client-{number}") for number in range(10)]
        for number in range(count):
            token = AuthToken.objects.create(user=users[number // 10], client=clients[number % 10])
            print(f"authorization: Token {token.token}")
    elif PEER == "knox":
        from knox.models import get_token_model

        for number in range(count):
            _, text = get_token_model().objects.create(users[number // 10])
            print(f"authorization: Token {text}")
    else:
        from djforge_redis_multitokens.tokens_auth import MultiToken

        for number in range(count):
            token, _ = MultiToken.create_token(users[number // 10])
            print(f"authorization: Token {token.key}")


if __name__ == "__main__":
    make(int(sys.argv[1]))
