"""Who asks when Schemathesis holds the server to its description, and what came of it.

Loaded by Schemathesis as its hooks; started by `cargo xtask contract`. A case is asked by a user, by staff, by an
administrator or by a service's key, in turns that favour whoever gets furthest. What is asked may end or demote the
very one who asks: each is looked at before every case, and is given a new token, or is made anew, when that has happened.
"""

import atexit
import collections
import itertools
import json
import os
import subprocess
import threading

import requests
import schemathesis

URL = os.environ["CONTRACT_URL"]
PROGRAM = [os.environ["CONTRACT_PROGRAM"], "--data-dir", os.environ["CONTRACT_DATA_DIR"], "--json"]
SUMMARY = os.environ["CONTRACT_SUMMARY"]
# Another process of the same kind runs beside this one.
NAMES = os.environ["CONTRACT_NAMES"]
PASSWORD = "a counterfoil is kept by the issuer"

lock = threading.Lock()
turns = itertools.count()
serials = itertools.count(1)
session = requests.Session()
session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=16))


def command(*arguments, stdin=None):
    """What the program answers; None when it refuses."""
    done = subprocess.run([*PROGRAM, *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 2:
        raise RuntimeError(f"{arguments}: {done.stderr}")
    return json.loads(done.stdout) if done.returncode == 0 else None


class Actor:
    """Somebody with a token, made by the command line and not by a login: logins are what is tried here."""

    def __init__(self, role, *, key=False):
        self.role = role
        self.key = key
        self.name = None
        self.secret = None
        self.subject = None

    def ready(self):
        """A token that is accepted now, of an account that still is what it was made as."""
        if self.secret is None or not self.is_itself():
            self.secret = self.issue()
            if self.secret is None:
                self.create()
                self.secret = self.issue()
            if self.secret is None or not self.is_itself():
                self.create()
                self.secret = self.issue()
        return self.secret

    def is_itself(self):
        answer = session.get(f"{URL}/v1/me", headers={"Authorization": f"Bearer {self.secret}"}, timeout=30)
        if answer.status_code == 429:
            return False
        user = answer.json().get("user") or {}
        self.subject = user.get("id", self.subject)
        return answer.status_code == 200 and all(user.get(role) is (role == self.role) for role in ("staff", "admin"))

    def create(self):
        self.name = f"{NAMES}-{self.role}{next(serials)}"
        flags = [] if self.role == "user" else [f"--{self.role}"]
        if command("user", "create", self.name, *flags, "--password-stdin", stdin=PASSWORD) is None:
            raise RuntimeError(f"no user {self.name}")

    def issue(self):
        if self.name is None:
            return None
        if self.key:
            abilities = " ".join(["*", *sorted(SCOPES)])
            made = command("key", "create", "--user", self.name, "--name", "service", "--abilities", abilities)
        else:
            made = command("token", "issue", "--user", self.name)
        return made and made["token"]


def scopes():
    """Every ability that the description asks for somewhere."""
    document = session.get(f"{URL}/openapi.json", timeout=30).json()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    requirements = [need for operation in operations for need in operation.get("security", [])]
    return {scope for need in requirements for named in need.values() for scope in named}


SCOPES = scopes()


class Cast(threading.local):
    """Everybody who asks in one thread. Each thread has its own, so that none ends what another is about to use."""

    def __init__(self):
        user, staff, admin = Actor("user"), Actor("staff"), Actor("admin")
        service = Actor("user", key=True)
        self.user = user
        self.affairs_of_all = [admin, admin, admin, admin, staff, admin, user, admin, service, staff]
        self.own_affairs = [user, user, service, user, admin, service, user, staff, service, user]


cast = Cast()


@schemathesis.auth(refresh_interval=None)
class Turns:
    """A token for each case."""

    def get(self, case, _context):
        whose = cast.affairs_of_all if "/admin" in case.operation.path else cast.own_affairs
        return whose[next(turns) % len(whose)].ready()

    def set(self, case, secret, _context):
        if case.operation.definition.raw.get("security") not in (None, [], [{}]):
            case.headers["Authorization"] = f"Bearer {secret}"


@schemathesis.hook
def map_body(context, body):
    """Lets one right login in three be somebody's, and one user in two that staff name be there: neither a password nor
    an id is to be guessed. What is wrong stays wrong."""
    if context.operation.path == "/v1/login" and is_login(body) and next(turns) % 3 == 0:
        cast.user.ready()
        return {"username": cast.user.name, "password": PASSWORD}
    names_a_user = "/admin/tokens" in context.operation.path and isinstance(body, dict) and "user" in body
    if names_a_user and isinstance(body["user"], str) and next(turns) % 2 == 0:
        cast.user.ready()
        return {**body, "user": cast.user.subject}
    return body


def is_login(body):
    """Whether the description allows it."""
    if not isinstance(body, dict) or not {"username", "password"} <= body.keys() <= LOGIN_FIELDS:
        return False
    optional = (body.get(field) for field in LOGIN_FIELDS - {"username", "password"})
    return (
        isinstance(body["username"], str)
        and isinstance(body["password"], str)
        and all(value is None or isinstance(value, str) for value in optional)
    )


LOGIN_FIELDS = {"username", "password", "client", "name"}

answers = collections.defaultdict(collections.Counter)


@schemathesis.hook
def after_call(_context, case, response):
    """Counts the answer."""
    with lock:
        answers[case.operation.label][response.status_code] += 1


def sum_up():
    """Writes what was answered how often, for the one who started this."""
    with open(SUMMARY, "w", encoding="utf-8") as file:
        json.dump({label: dict(counted) for label, counted in sorted(answers.items())}, file)


atexit.register(sum_up)
