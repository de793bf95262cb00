"""Settings as `startproject` writes them, with DEBUG off, and those of one package and profile.

LAB_PACKAGE and LAB_PROFILE choose, LAB_CASES is the directory whose setup counts, LAB_DIRECTORY is where database and
mails are, LAB_REDIS the URL of a database in Redis.
"""

import os
from pathlib import Path

from labapp import cases

PACKAGE = os.environ["LAB_PACKAGE"]
PROFILE = os.environ["LAB_PROFILE"]
SETUP = cases.read(os.environ["LAB_CASES"], PACKAGE)
DIRECTORY = Path(os.environ["LAB_DIRECTORY"])

DEBUG = False
SECRET_KEY = "signs nothing that outlives a recording"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "labapp.urls"
WSGI_APPLICATION = "labapp.wsgi.application"
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIRECTORY / "db.sqlite3",
        "CONN_MAX_AGE": None,
        # Made anew for every case: nothing here needs to survive a power cut.
        "OPTIONS": {"init_command": "PRAGMA synchronous=OFF; PRAGMA journal_mode=MEMORY;"},
    }
}
# One worker process serves a site, so that this one cache is the site's.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = DIRECTORY / "mail"
# Cases log in by the hundred. It shows in one place only: a password that is no text (5, true, []) is an error of this
# hasher, as the cases that we were given have it, where Django's default takes it for what Python prints of it ("5").
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

REST_FRAMEWORK = {}
LAB_TOKENS_TIMEOUT = None
LAB_CONFIRM_USER = False

if PACKAGE == "multitoken":
    INSTALLED_APPS.append("drf_multitokenauth")
    REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] = [
        "drf_multitokenauth.coreauthentication.MultiTokenAuthentication"
    ]
elif PACKAGE == "durin":
    INSTALLED_APPS.append("durin")
    REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] = ["durin.auth.TokenAuthentication"]
    REST_FRAMEWORK["DEFAULT_PERMISSION_CLASSES"] = ["rest_framework.permissions.IsAuthenticated"]
    REST_FRAMEWORK["DEFAULT_THROTTLE_RATES"] = {"user_per_client": "1000/m"}
    REST_DURIN = {"API_ACCESS_CLIENT_NAME": "api"}
elif PACKAGE == "advanced":
    INSTALLED_APPS += ["rest_framework.authtoken", "drf_advanced_token"]
    MIDDLEWARE.append("drf_advanced_token.middleware.auth.ProcessToken")
elif PACKAGE == "djforge":
    REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] = [
        "djforge_redis_multitokens.tokens_auth.CachedTokenAuthentication"
    ]
elif PACKAGE == "restauthtoken":
    INSTALLED_APPS.append("rest_authtoken")
    REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] = ["rest_authtoken.auth.AuthTokenAuthentication"]
elif PACKAGE == "knox":
    INSTALLED_APPS.append("knox")
    REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] = ["knox.auth.TokenAuthentication"]
elif PACKAGE == "drfauthtoken":
    INSTALLED_APPS.append("rest_framework.authtoken")
    REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"] = ["rest_framework.authentication.TokenAuthentication"]
else:
    raise SystemExit(f"there is no package {PACKAGE!r}")

cases.apply(SETUP["profiles"][PROFILE], globals())

if PACKAGE == "djforge":
    CACHES["tokens"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ["LAB_REDIS"],
        "TIMEOUT": LAB_TOKENS_TIMEOUT,
    }
if LAB_CONFIRM_USER:
    INSTALLED_APPS.append("labuser")
    AUTH_USER_MODEL = "labuser.User"
    # Its one table is made as the model has it.
    MIGRATION_MODULES = {"labuser": None}
