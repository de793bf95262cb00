"""The hook before each case: the store is to hold what the setup names, and nothing else."""

import hashlib
from base64 import urlsafe_b64decode
from datetime import timedelta
from functools import cache

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.cache import cache as site_cache
from django.core.cache import caches
from django.db import connection, transaction
from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from labapp import cases

# Rows that the migrations made belong to the site, not to a case.
KEPT = {"django_migrations", "django_content_type", "auth_permission"}
SETUP = settings.SETUP


@csrf_exempt
def reset(request):
    """POST, with nothing in it."""
    site_cache.clear()
    with transaction.atomic():
        empty()
        users = make_users()
        FILL[settings.PACKAGE](users)
    if settings.EMAIL_FILE_PATH.is_dir():
        for mail in settings.EMAIL_FILE_PATH.iterdir():
            mail.unlink()
    return HttpResponse(status=204)


def empty():
    """Deletes every row, and lets ids begin at 1 again, so that cases may name them."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            if table not in KEPT:
                cursor.execute(f'DELETE FROM "{table}"')
        cursor.execute("DELETE FROM sqlite_sequence")


@cache
def hashed(password):
    """The stored form of a password; None gives one that nothing matches."""
    return make_password(password)


def make_users():
    """The accounts, by name."""
    model = get_user_model()
    rows = [
        model(
            username=user["username"],
            password=hashed(user["password"]),
            email=user.get("email", ""),
            is_active=user.get("is_active", True),
            is_superuser=user.get("is_superuser", False),
        )
        for user in SETUP["users"]
    ]
    return {user.username: user for user in model.objects.bulk_create(rows)}


def tokens(users):
    """Each token of this profile with its owner and when it was made."""
    for token in SETUP.get("tokens", []):
        if settings.PROFILE in token.get("profiles", [settings.PROFILE]):
            yield token, users[token["user"]], instant(token.get("created_offset_s", 0))


def instant(offset):
    """So many seconds from now; None is never."""
    return None if offset is None else timezone.now() + timedelta(seconds=offset)


def fill_multitoken(users):
    from drf_multitokenauth.models import MultiToken

    for token, user, created in tokens(users):
        row = MultiToken.objects.create(key=token["token"], user=user, name=token.get("name", ""))
        MultiToken.objects.filter(pk=row.pk).update(created=created)


def fill_durin(users):
    from durin.models import AuthToken, Client

    clients = {}
    for client in SETUP["clients"]:
        ttl = cases.duration(client["token_ttl"])
        clients[client["name"]] = Client.objects.create(
            name=client["name"], token_ttl=ttl, throttle_rate=client["throttle_rate"]
        )
    for token, user, created in tokens(users):
        client = clients[token["client"]]
        expiry = instant(token["expiry_offset_s"])
        # The package's own `create` chooses the text.
        [row] = AuthToken.objects.bulk_create(
            [AuthToken(token=token["token"], user=user, client=client, expiry=expiry)]
        )
        AuthToken.objects.filter(pk=row.pk).update(created=created)


def fill_drf(users):
    from rest_framework.authtoken.models import Token

    for token, user, created in tokens(users):
        Token.objects.create(key=token["token"], user=user)
        Token.objects.filter(pk=token["token"]).update(created=created)


def fill_advanced(users):
    fill_drf(users)
    if not getattr(settings, "LAB_NO_LOCK_TABLE", False):
        from drf_advanced_token.models import UserAPIKeyLock

        for name in SETUP.get("locks", []):
            UserAPIKeyLock.objects.create(user=users[name])


def fill_djforge(users):
    store = caches["tokens"]
    store.clear()
    listed = {}
    for token, user, _ in tokens(users):
        digest = token["token"].split(":hash:")[1]
        ttl = token.get("ttl_s")
        listed.setdefault(user.pk, []).append(digest)
        store.set(str(user.pk), listed[user.pk], timeout=ttl)
        store.set(digest, str(user.pk), timeout=ttl)


def fill_restauthtoken(users):
    from rest_authtoken.models import AuthToken, EmailConfirmationToken

    for token, user, created in tokens(users):
        row = {
            "hashed_token": hashlib.sha512(urlsafe_b64decode(token["token"])).digest(),
            "user": user,
            "created": created,
        }
        if token.get("kind") == "email":
            EmailConfirmationToken.objects.create(email=token["email"], **row)
        else:
            AuthToken.objects.create(**row)


def fill_knox(users):
    from knox.crypto import hash_token
    from knox.models import AuthToken
    from knox.settings import CONSTANTS

    for token, user, created in tokens(users):
        text = token["token"]
        expiry = instant(token["expiry_offset_s"])
        row = AuthToken(digest=hash_token(text), token_key=text[: CONSTANTS.TOKEN_KEY_LENGTH], user=user, expiry=expiry)
        AuthToken.objects.bulk_create([row])
        AuthToken.objects.filter(pk=row.pk).update(created=created)


FILL = {
    "multitoken": fill_multitoken,
    "durin": fill_durin,
    "advanced": fill_advanced,
    "djforge": fill_djforge,
    "restauthtoken": fill_restauthtoken,
    "knox": fill_knox,
    "drfauthtoken": fill_drf,
}
