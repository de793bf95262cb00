"""Asks the real framework at random, and writes down what it answers: asked.py [SEED [NUMBER]] > asked.json

For tests/stories/dialects/asked.json of counterfoil-http. Needs Django 5.2, Django REST framework 3.18 and drf-multitokenauth 2.1,
as `cargo xtask record` installs them. Runs without a server, in memory."""

import base64
import json
import random
import sys
import types

from django.conf import settings

settings.configure(
    SECRET_KEY="of nobody",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="asked_urls",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "rest_framework", "rest_framework.authtoken",
                    "drf_multitokenauth"],
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware",
                "django.middleware.csrf.CsrfViewMiddleware", "django.middleware.clickjacking.XFrameOptionsMiddleware"],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    STATIC_URL="static/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    LOGGING_CONFIG=None,
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.TokenAuthentication"]},
)

import django

django.setup()

from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.urls import include, path
from rest_framework.authtoken.models import Token
from rest_framework.authtoken.views import obtain_auth_token
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView


class Me(APIView):
    permission_classes = [IsAuthenticated]

    def get(self, request):
        return Response({"username": request.user.username})

    post = get


urls = types.ModuleType("asked_urls")
urls.urlpatterns = [path("me/", Me.as_view()), path("api-token-auth/", obtain_auth_token),
                    path("api/auth/", include("drf_multitokenauth.urls"))]
sys.modules["asked_urls"] = urls

TOKEN = "1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d"
PATHS = ["/api-token-auth/"] * 5 + ["/me/"] * 3 + ["/api/auth/login"] * 3 + [
    "/api/auth/login/", "/api/auth/logout", "/api/auth/logoutX", "/api-token-auth", "/nope", "/api/auth/x"]
QUERIES = [""] * 12 + ["?format=json", "?format=api", "?format=xml", "?format=", "?format=json&format=api", "?format=JSON",
                       "?for%6Dat=json", "?format=%6Ason"]
ACCEPT = [None] * 12 + [
    "*/*", "", "application/json", "text/html", "application/json; indent=4", "application/json;indent=2;q=0.1", "text/*",
    "image/png", "application/xml,*/*;q=0.1", "text/html;q=0.9,application/json", "foo", "*", "*/json", "application/*;indent=3",
    "APPLICATION/JSON", "application/json; INDENT=3", 'application/json;indent="2"', "application/json ; indent = 5",
    "text/html;level=1, application/json", "application/json;indent=+3", ",,", "*/*;indent=4,application/json"]
AUTHORIZATION = [None] * 20 + [
    f"Token {TOKEN}", f"token  {TOKEN}", f"TOKEN\t{TOKEN}", "Token", "Token ", "Token a b", f"Bearer {TOKEN}", TOKEN,
    "Token \xff\xfe", "Token \xc3\xa4", "", " ", f"Token {TOKEN} ", f"Token {TOKEN.upper()}", "Basic am9objpmb28=", "Token,x",
    f"Token {TOKEN},Token {TOKEN}"]
TYPES = ["application/json"] * 10 + ["application/x-www-form-urlencoded"] * 6 + ["multipart/form-data; boundary=x"] * 6 + [
    "application/json; charset=utf-8", "application/json; charset=latin-1", "application/json;charset=ascii", "text/plain", "",
    "application/*", "*/*", "multipart/*; boundary=x", "Application/Json", "multipart/form-data", 'multipart/form-data; boundary="x"',
    "application/x-www-form-urlencoded; charset=iso-8859-1", "application/json,application/json", "multipart/form-data; boundary=<x>"]
NAMES = ["username", "password", "token_name", "token", "Username"]
VALUES = ["123", "12345678", '"john"', '"foobar123"', '""', '" john "', '"  "', "null", "1", "-0", "1.5", "1e22", "1E5", "0.00001",
          "123456789012345678901234567890", "true", "[]", "{}", r'"\ud800"', r'"\u0000x"', r'"\ud83d\ude00"', r'"a\u001f"', '"\u00e9"',
          "NaN", "-Infinity", '"open', "tru", "1e400", "1e16", "1e15", r'"\u2028"']
BROKEN = ["null", "[]", '"x"', "1", "1.5", "true", " ", "{", "[", "[1,]", '{"a":1,}', '{"a" 1}', "{a:1}", '{"a":1}x', '"\x01"', r'"\x"',
          r'"\u12"', r'"\u12g4"', r'"\ud83d\u00"', '"abc', "-", "01", "1.", "1.e5", ".5", "+1", "\x00", "\ufeff{}", "[1 2]", '{"a":', '{"a"',
          '["a"', "nul", r'"\ud800\udc0"', '"\\', '{"\u00e9":1,\n"b" 2}', '{"a":{"b":[1,2,{"c":}]}}', "{,}", "[,]"]
FORM_VALUES = ["john", "foobar123", "", "+john+", "%20", "%00", "%C3%A4", "%ff", "\u00e4", "a=b", "%", "%4", "%zz", "\x01"]


def a_json(pick):
    if random.random() < 0.15:
        return pick(BROKEN).encode()
    fields = [f'"{pick(NAMES)}":{pick(VALUES)}' for _ in range(random.randint(0, 3))]
    if random.random() < 0.6:
        fields = [f'"username":{pick(VALUES + ["john"] * 9)}', f'"password":{pick(VALUES)}'] + fields[:1]
    return ("{" + pick([",", ", "]).join(fields) + "}").encode()


def a_form(pick):
    pairs = [pick([*NAMES, "", "%75sername"]) + pick(["=", "=", "", "=="]) + pick(FORM_VALUES) for _ in range(random.randint(0, 4))]
    return pick(["&", "&", "&&", ";"]).join(pairs).encode(pick(["utf-8", "latin-1"]))


def a_multipart(pick):
    body = b""
    for _ in range(random.randint(0, 4)):
        name = pick(NAMES)
        file = pick(["f.txt", "", "..", "a/b", "a/"])
        head = pick([f'Content-Disposition: form-data; name="{name}"', f"content-disposition:form-data;name={name}",
                     f'Content-Disposition: form-data; name="{name}"; filename="{file}"', "X: y"])
        if random.random() < 0.15:
            head += "\r\n" + pick(["Content-Transfer-Encoding: base64", "bad line"])
        value = pick([b"john", b"foobar123", b"", b" john ", b"am9obg==", b"am9obg", b"\xff", b"\xc3\xa4", b"\x00", b"--x"])
        body += b"--x\r\n" + head.encode() + b"\r\n\r\n" + value + b"\r\n"
    return body + b"--x--" + pick([b"\r\n", b"", b"\r\nepilogue"])


def main(seed=1, number=600):
    random.seed(seed)
    pick = random.choice
    call_command("migrate", verbosity=0)
    john = get_user_model().objects.create_user("john", password="foobar123")
    get_user_model().objects.create_user("123", password="12345678")
    Token.objects.create(user=john, key=TOKEN)
    client = Client(raise_request_exception=False)
    kept = ("content-type", "www-authenticate", "allow", "location", "vary", "x-frame-options")
    cases = []
    while len(cases) < number:
        where, method = pick(PATHS), pick(["POST"] * 12 + ["GET", "OPTIONS", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "FOO"])
        query, accept, authorization, media = pick(QUERIES), pick(ACCEPT), pick(AUTHORIZATION), pick(TYPES)
        if "logout" in where and TOKEN in (authorization or "").lower():
            continue  # this token is not of that package
        body = b""
        if method not in ("GET", "HEAD", "OPTIONS", "TRACE"):
            make = a_form if "urlencoded" in media else a_multipart if "multipart" in media else a_json
            body = make(pick)
        if body and random.random() < 0.04:
            at = random.randint(0, len(body))
            body = body[:at] + pick([b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\xaf"]) + body[at:]
        sent = {"HTTP_ACCEPT": accept, "HTTP_AUTHORIZATION": authorization}
        sent = {name: value for name, value in sent.items() if value is not None}
        answer = client.generic(method, where + query, body, content_type=media, **sent)
        if answer.status_code == 500:
            continue  # the framework fails; ours may not
        headers = {name.lower(): value for name, value in answer.headers.items() if name.lower() in kept}
        case = {"method": method, "path": where + query, "accept": accept, "authorization": authorization, "content_type": media,
                "body": base64.b64encode(body).decode(), "status": answer.status_code, "headers": headers}
        # The framework's page is its own; so is ours.
        if answer.status_code == 404 or "html" not in headers.get("content-type", ""):
            case["answer"] = answer.content.decode()
        cases.append({name: value for name, value in case.items() if value not in (None, {}) and (value or name == "accept")})
    users = [{"username": "john", "password": "foobar123"}, {"username": "123", "password": "12345678"}]
    tokens = [{"label": "john", "user": "john", "token": TOKEN}]
    print("{", f'"users": {json.dumps(users)},', f'"tokens": {json.dumps(tokens)},', '"cases": [', sep="\n")
    print(",\n".join(json.dumps(case) for case in cases), "]", "}", sep="\n")


main(*map(int, sys.argv[1:]))
