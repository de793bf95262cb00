#!/usr/bin/env python3
"""Runs what docs/nodes.md says, on this machine: two PostgreSQL, three nodes, nginx; and measures what breaks when something does.

    deploy/rehearse.py target/release/counterfoil [--keep]

For root, on Debian 12 with postgresql and nginx. The files are those of this directory, with other ports, paths and addresses; where the
documents start a unit, a process with its user, environment and arguments is started here. Two clusters of PostgreSQL, 15/cfdb1 and
15/cfdb2, are made and dropped. Ends with 1 if something was not as it is written.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
# Whoever the unit says, by a number that nobody else has.
NODE_USER = 10001
DB = {"db1": 15431, "db2": 15432}
NODES = [18081, 18082, 18083]
PROXY = 18443
USERS = 30
PASSWORD = "correct horse battery staple"

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'counterfoil_node'"
WAITING = f"{CONNECTIONS} AND wait_event = 'SyncRep'"

wrong = []


def say(what):
    print(what, flush=True)


def must(holds, what):
    say(f"{'ok    ' if holds else 'WRONG '} {what}")
    if not holds:
        wrong.append(what)


def sh(command, check=True, **more):
    ran = subprocess.run(["bash", "-euo", "pipefail", "-c", command], capture_output=True, text=True, **more)
    if check and ran.returncode != 0:
        raise SystemExit(f"{command}\nended with {ran.returncode}: {ran.stdout}{ran.stderr}")
    return ran


def within(seconds, what, condition):
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            raise SystemExit(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - begun


class Site:
    def __init__(self, program):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="counterfoil-rehearsal-"))
        self.directory.chmod(0o755)
        self.program = self.directory / "counterfoil"
        shutil.copy(program, self.program)
        self.nodes = {}
        self.proxy = None
        self.passwords = {name: os.urandom(18).hex() for name in ("replication", "migrator", "node")}

    def file(self, name, content, mode=0o644, owner=None):
        path = self.directory / name
        path.write_text(content)
        path.chmod(mode)
        if owner is not None:
            os.chown(path, owner, owner)
        return path

    # What stands in for the two database servers.

    def certificates(self):
        d = self.directory
        sh(f"""cd {d}
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=counterfoil databases' -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout db.key -out db.csr
openssl x509 -req -in db.csr -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -days 2 -out db.pem
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=auth.example.org -addext subjectAltName=DNS:auth.example.org \
    -keyout auth.key -out auth.pem
chown postgres db.key && chmod 0600 db.key""")

    def cluster(self, name):
        sh(f"pg_createcluster --port {DB[name]} 15 cf{name} -- --auth-local=peer --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8")
        etc = pathlib.Path(f"/etc/postgresql/15/cf{name}")
        settings = (HERE / "postgres/server.conf").read_text().replace("/etc/ssl/counterfoil", str(self.directory))
        settings = settings.replace("listen_addresses = '*'", "listen_addresses = '127.0.0.1'")
        (etc / "conf.d/counterfoil.conf").write_text(settings)
        (etc / "conf.d/name.conf").write_text(f"cluster_name = '{name}'\n")
        (etc / "pg_hba.conf").write_text((HERE / "postgres/pg_hba.conf").read_text().replace("10.0.0.0/24", "127.0.0.1/32"))

    def ctl(self, name, what, check=True):
        return sh(f"pg_ctlcluster 15 cf{name} {what}", check)

    def psql(self, name, more, check=True, env=None, script=None):
        return sh(f"env HOME=/var/lib/postgresql setpriv --reuid=postgres --regid=postgres --init-groups psql -X -q -p {DB[name]} {more}", check,
                  env={**os.environ, **(env or {})}, cwd=self.directory, input=script)

    def ask(self, name, sql, check=True):
        return self.psql(name, f'-At -c "{sql}" postgres', check).stdout.strip()

    def base_backup(self, name, of):
        passfile = self.directory / f"passfile-{name}"
        passfile.write_text(f"127.0.0.1:{DB[of]}:*:counterfoil_replication:{self.passwords['replication']}\n")
        shutil.chown(passfile, "postgres", "postgres")
        passfile.chmod(0o600)
        sh(f"""rm -rf /var/lib/postgresql/15/cf{name}
env HOME=/var/lib/postgresql setpriv --reuid=postgres --regid=postgres --init-groups /usr/lib/postgresql/15/bin/pg_basebackup \
    --pgdata=/var/lib/postgresql/15/cf{name} --write-recovery-conf --create-slot --slot={name} --checkpoint=fast \
    --dbname='{self.following(name, of)}'""")

    def following(self, name, of):
        return (f"host=127.0.0.1 port={DB[of]} user=counterfoil_replication passfile={self.directory}/passfile-{name} "
                f"sslmode=verify-full sslrootcert={self.directory}/ca.pem")

    def url(self, role, *names):
        names = names or ("db1", "db2")
        hosts = ",".join(f"127.0.0.1:{DB[name]}" for name in names)
        return (f"postgres://counterfoil_{role}:{self.passwords[role]}@{hosts}/counterfoil"
                f"?sslmode=verify-full&sslrootcert={self.directory}/ca.pem")

    # Nodes.

    def unprivileged(self, *words):
        return ["setpriv", f"--reuid={NODE_USER}", f"--regid={NODE_USER}", "--clear-groups", "--no-new-privs", "--", *words]

    def settings(self):
        data = self.directory / "data"
        data.mkdir(mode=0o700)
        os.chown(data, NODE_USER, NODE_USER)
        self.file("store-url", self.url("node") + "\n", 0o600, NODE_USER)
        text = (HERE / "systemd/node.toml").read_text()
        text = text.replace("/var/lib/counterfoil", str(data)).replace("/etc/counterfoil/store-url", f"{self.directory}/store-url")
        self.file("node.toml", text)

    def counterfoil(self, line, check=True, stdin=None):
        ran = subprocess.run(self.unprivileged(str(self.program), "--config", f"{self.directory}/node.toml", *line.split()),
                             capture_output=True, text=True, input=stdin, env={"PATH": "/usr/bin:/bin"})
        if check and ran.returncode != 0:
            raise SystemExit(f"counterfoil {line}: {ran.stdout}{ran.stderr}")
        return ran

    def migrate(self, *more):
        return subprocess.run(self.unprivileged(str(self.program), "migrate", *more), capture_output=True, text=True, cwd="/",
                              env={"PATH": "/usr/bin:/bin", "COUNTERFOIL_STORE_URL": self.url("migrator")})

    def start(self, port, wrapper=()):
        # In the order in which systemd hands them over: Environment=, then EnvironmentFile=.
        environment = {"PATH": "/usr/bin:/bin", "COUNTERFOIL_LISTEN": f"127.0.0.1:{port}", "COUNTERFOIL_METRICS_LISTEN": f"127.0.0.1:{port + 1400}"}
        log = open(self.directory / f"node-{port}.log", "a")
        node = subprocess.Popen([*wrapper, *self.unprivileged(str(self.program), "--config", f"{self.directory}/node.toml", "serve")],
                                stdout=subprocess.PIPE, stderr=log, env=environment, text=True, cwd="/")
        if "listening on" not in node.stdout.readline():
            raise SystemExit(f"the node at {port} did not start: {(self.directory / f'node-{port}.log').read_text()[-2000:]}")
        self.nodes[port] = node

    def stop(self, port, how=signal.SIGTERM):
        node = self.nodes.pop(port)
        node.send_signal(how)
        return node.wait(30)

    # nginx.

    def begin_proxy(self):
        text = (HERE / "nginx/counterfoil.conf").read_text().replace("/etc/ssl/counterfoil", str(self.directory))
        text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{PROXY} ssl")
        for known, port in zip((8081, 8082, 8083), NODES):
            text = text.replace(f"127.0.0.1:{known} ", f"127.0.0.1:{port} ")
        self.file("counterfoil.conf", text)
        d = self.directory
        self.file("nginx.conf", f"""user www-data;
worker_processes 2;
daemon off;
pid {d}/nginx.pid;
error_log {d}/nginx-error.log;
events {{}}
http {{
    log_format tried '$msec $request_method $uri $status $upstream_addr $upstream_status $upstream_response_time';
    access_log {d}/nginx-access.log tried;
    client_body_temp_path {d}/body;
    proxy_temp_path {d}/proxy;
    include {d}/counterfoil.conf;
}}
""")
        checked = sh(f"nginx -t -c {d}/nginx.conf", check=False)
        must(checked.returncode == 0, "nginx -t")
        self.proxy = subprocess.Popen(["nginx", "-c", f"{d}/nginx.conf"])

    def close(self, keep):
        for port in list(self.nodes):
            self.stop(port)
        if self.proxy:
            self.proxy.terminate()
            self.proxy.wait(10)
        for name in DB:
            if os.path.exists(f"/etc/postgresql/15/cf{name}"):
                sh(f"pg_dropcluster --stop 15 cf{name}", check=False)
                # It leaves what it did not make.
                shutil.rmtree(f"/etc/postgresql/15/cf{name}", ignore_errors=True)
        if keep:
            say(f"kept: {self.directory}")
        else:
            shutil.rmtree(self.directory)


class Caller:
    """Somebody with a connection to the proxy, or to one node."""

    def __init__(self, site, port=PROXY):
        self.site, self.port, self.connection = site, port, None

    def ask(self, method, path, token=None, body=None, timeout=40):
        headers = {"Host": "auth.example.org"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"], body = "application/json", json.dumps(body)
        reused = self.connection is not None
        if self.connection is None:
            if self.port == PROXY:
                context = ssl.create_default_context(cafile=self.site.directory / "auth.pem")
                context.check_hostname = False
                self.connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context)
            else:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            content = answer.read()
            if answer.will_close:
                self.close()
            return answer.status, content, {name.lower(): value for name, value in answer.getheaders()}
        except (OSError, http.client.HTTPException) as error:
            self.close()
            # Idle for too long, and hung up on.
            if reused and method == "GET":
                return self.ask(method, path, token)
            return 0, str(error).encode(), {}

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def login(self, name="laptop"):
        status, content, _ = self.ask("POST", "/v1/login", body={"username": "ada", "password": PASSWORD, "name": name})
        told = json.loads(content) if status == 200 else {}
        return status, told.get("token"), told.get("id")

    def me(self, token):
        return self.ask("GET", "/v1/me", token)[0]


class Load:
    """Checks and logins through the proxy, one after the other, until it is ended; every answer with its time."""

    def __init__(self, site, token, checkers=4, logins=1):
        self.checks, self.logins, self.tokens = [], [], []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.check, args=(Caller(site), token)) for _ in range(checkers)]
        self.threads += [threading.Thread(target=self.log_in, args=(Caller(site),)) for _ in range(logins)]
        for thread in self.threads:
            thread.start()

    def check(self, caller, token):
        while not self.over.is_set():
            begun = time.monotonic()
            status, _, headers = caller.ask("GET", "/v1/me", token)
            self.checks.append((begun, time.monotonic(), status, headers.get("retry-after")))

    def log_in(self, caller):
        while not self.over.is_set():
            begun = time.monotonic()
            status, token, _ = caller.login("loop")
            self.logins.append((begun, time.monotonic(), status))
            if token:
                self.tokens.append(token)

    def end(self, what):
        self.over.set()
        for thread in self.threads:
            thread.join()
        count = lambda answers: ", ".join(f"{n} × {status or 'no answer'}" for status, n in
                                          sorted({s: [a[2] for a in answers].count(s) for s in {a[2] for a in answers}}.items()))
        say(f"       {what}: checks {count(self.checks)}; logins {count(self.logins)}; slowest check "
            f"{max(end - begun for begun, end, *_ in self.checks) * 1000:.0f} ms")
        return self

    def failed(self, answers):
        return sum(status != 200 for _, _, status, *_ in answers)


def doctor(site, when):
    ran = site.counterfoil("doctor", check=False)
    say(f"       doctor {when}: ended with {ran.returncode}")
    for line in ran.stdout.splitlines():
        if re.match(r"\s*(ok|warning|fault)\s+(postgresql|durability|standbys|role|schema|clock|server)", line) or not line.startswith("ok"):
            say(f"         {line.replace(str(site.directory), 'D')}")
    return ran


def standbys(ran):
    must(re.search(r"^ok +standbys .*wait", ran.stdout, re.M), "the nodes' role sees a standby that commits wait for")


def rehearse(site):
    say("databases")
    site.certificates()
    for name in DB:
        site.cluster(name)
    site.ctl("db1", "start")
    # Commits would wait for a standby that is yet to be made.
    alone = {"PGOPTIONS": "-c synchronous_commit=local"}
    passwords = "".join(f"\\set {name}_password {password}\n" for name, password in site.passwords.items())
    replication, roles = (passwords + (HERE / f"postgres/{name}.sql").read_text() for name in ("replication", "roles"))
    site.psql("db1", "postgres", env=alone, script=replication + roles)
    site.base_backup("db2", "db1")
    site.ctl("db2", "start")
    within(30, "the standby follows", lambda: "quorum" in site.ask("db1", "SELECT sync_state FROM pg_stat_replication"))
    site.psql("db1", "postgres", script=roles)
    must(True, "a standby by pg_basebackup that commits wait for; roles.sql twice")

    say("tables")
    site.settings()
    refused = site.counterfoil("user list", check=False)
    must(refused.returncode == 1 and "counterfoil migrate" in refused.stderr, "without tables a command names `counterfoil migrate`")
    must(site.migrate("--dry-run").returncode == 0, "migrate --dry-run as counterfoil_migrator")
    ran = site.migrate()
    must(ran.returncode == 0, f"migrate as counterfoil_migrator: {ran.stdout.strip()}{ran.stderr.strip()}")
    site.psql("db1", "postgres", script=roles)

    say("the nodes' role")
    def as_node(sql):
        return sh(f"psql -X -q -v ON_ERROR_STOP=1 '{site.url('node', 'db1')}' -c \"{sql}\"", check=False).returncode
    for sql in ("DROP TABLE tokens", "ALTER TABLE tokens ADD COLUMN x int", "CREATE TABLE x (a int)", "TRUNCATE tokens", "CREATE SCHEMA x",
                "CREATE TEMP TABLE x (a int)", "CREATE INDEX x ON tokens (id)", "CREATE ROLE x", "ALTER SYSTEM SET fsync = off",
                "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'", "COPY tokens TO PROGRAM 'cat'", "SELECT pg_read_file('/etc/passwd')"):
        must(as_node(sql) != 0, f"may not {sql}")
    must(as_node("SELECT count(*) FROM tokens") == 0, "may read rows")

    say("nodes")
    for port in NODES:
        site.start(port)
    site.begin_proxy()
    site.counterfoil("user create ada --password-stdin", stdin=PASSWORD + "\n")
    for number in range(USERS):
        site.counterfoil(f"user create user{number} --no-password")
    caller = Caller(site)
    within(10, "the proxy answers", lambda: caller.ask("GET", "/healthz")[0] == 200)
    each = {port: Caller(site, port) for port in NODES}
    standbys(doctor(site, "before"))

    status, token, _ = caller.login()
    must(status == 200 and all(node.me(token) == 200 for node in each.values()), "a token from the proxy holds on each node")
    latest = 0.0
    for _ in range(20):
        _, other, id = each[NODES[0]].login()
        assert all(node.me(other) == 200 for node in each.values())
        ended = time.monotonic()
        assert each[NODES[1]].ask("DELETE", f"/v1/tokens/{id}", token)[0] == 204
        acknowledged = time.monotonic()
        assert each[NODES[1]].me(other) == 401
        within(2, "refused everywhere", lambda: all(node.me(other) == 401 for node in each.values()))
        latest = max(latest, time.monotonic() - acknowledged)
    must(latest <= 1, f"20 tokens revoked on one node are refused by all, the last {latest * 1000:.0f} ms after the acknowledgement")
    _, other, id = each[NODES[0]].login()
    assert all(node.me(other) == 200 for node in each.values())
    begun = time.monotonic()
    status = each[NODES[1]].ask("DELETE", f"/v1/tokens/{id}?wait=everywhere", token)[0]
    took = time.monotonic() - begun
    must(status == 204 and all(node.me(other) == 401 for node in each.values()), f"wait=everywhere: refused by all at once, after {took * 1000:.0f} ms")
    again = each[NODES[2]].ask("DELETE", f"/v1/tokens/{id}", token)[0]
    say(f"       ended once more: {again}")
    content = Caller(site).ask("GET", "/v1/tokens", token)[1].decode()
    must('"127.0.0.1"' in content, "the proxy is believed about addresses")

    say("a node is killed")
    load = Load(site, token)
    time.sleep(2)
    site.stop(NODES[1], signal.SIGKILL)
    time.sleep(3)
    site.start(NODES[1])
    time.sleep(2)
    load.end("SIGKILL of one of three, and its start")
    must(load.failed(load.checks) == 0, "no check failed")

    say("all nodes are started anew, one after the other")
    load = Load(site, token, logins=2)
    time.sleep(1)
    for port in NODES:
        must(site.stop(port) == 0, f"the node at {port} ended with 0")
        site.start(port)
        within(10, "it is ready", lambda: Caller(site, port).ask("GET", "/readyz")[0] == 200)
    time.sleep(1)
    load.end("rolling restart")
    must(load.failed(load.checks) == 0, "no check failed")
    must(load.failed(load.logins) == 0, "no login failed")
    issued = load.tokens

    say("the standby is away")
    load, most = Load(site, token, logins=0), 0
    site.ctl("db2", "stop -m immediate")
    time.sleep(1)
    away = time.monotonic()
    told = []

    def log_in(number):
        while time.monotonic() - away < 45:
            begun = time.monotonic()
            status, _, _ = Caller(site).ask("POST", "/v1/login", body={"username": f"user{number}", "password": PASSWORD})
            told.append((status, time.monotonic() - begun))

    threads = [threading.Thread(target=log_in, args=(number,)) for number in range(USERS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, int(site.ask("db1", WAITING)))
        time.sleep(1)
    must({status for status, _ in told} == {503}, f"no login is acknowledged: {len(told)} × 503 after {max(took for _, took in told):.1f} s at most")
    say(f"       connections of the nodes that waited for the standby: {most} at most")
    ready = Caller(site, NODES[0]).ask("GET", "/readyz")[0]
    say(f"       /readyz of a node: {ready}")
    told = [line for line in site.counterfoil("doctor", check=False).stdout.splitlines() if "standbys" in line]
    must(told and told[0].startswith("fault"), f"doctor: {told}")
    site.ctl("db2", "start")
    took = within(60, "logins again", lambda: Caller(site).login()[0] == 200)
    say(f"       logins again {took:.1f} s after the standby was started")
    load.end("standby away")
    must(load.failed(load.checks) == 0, "checks went on")

    say("failover")
    caller = Caller(site)
    _, lost, id = caller.login()
    assert caller.ask("DELETE", f"/v1/tokens/{id}", token)[0] == 204
    _, fresh, _ = caller.login()
    load = Load(site, token)
    time.sleep(2)
    down = time.monotonic()
    site.ctl("db1", "stop -m immediate", check=False)  # fenced: it is down, and nothing starts it
    must(sh(f"pg_isready -q -h 127.0.0.1 -p {DB['db1']}", check=False).returncode == 2, "the old primary does not answer")
    promoted_from = time.monotonic()
    site.ask("db2", "ALTER SYSTEM SET synchronous_standby_names = ''")
    site.ask("db2", "SELECT pg_reload_conf()")
    site.ask("db2", "SELECT pg_promote()")
    promoted = time.monotonic()
    within(60, "checks again", lambda: any(begun > promoted and status == 200 for begun, _, status, _ in list(load.checks)))
    within(60, "logins again", lambda: any(begun > promoted and status == 200 for begun, _, status in list(load.logins)))
    time.sleep(2)
    load.end("failover")
    bad = [(begun, end, status, retry) for begun, end, status, retry in load.checks if status != 200]
    must({status for _, _, status, _ in bad} <= {503} and all(retry for *_, retry in bad), "whatever was not answered was 503 with Retry-After")
    first_good = min(end for begun, end, status, _ in load.checks if status == 200 and end > promoted)
    first_login = min(end for begun, end, status in load.logins if status == 200 and begun > promoted)
    if bad:
        say(f"       checks: 503 for {max(b[1] for b in bad) - min(b[1] for b in bad):.2f} s, from {min(b[1] for b in bad) - down:.2f} s after the end of the "
            f"primary; {first_good - promoted:.2f} s after the promotion again (promoting took {promoted - promoted_from:.2f} s)")
    say(f"       logins: again {first_login - promoted:.2f} s after the promotion")
    must(all(node.me(lost) == 401 for node in each.values()), "what was revoked before stays revoked")
    everything = [fresh, *issued, *load.tokens]
    must(all(caller.me(one) == 200 for one in everything), f"every token of {len(everything)} that was acknowledged holds")
    site.psql("db2", "postgres", script=roles)

    say("the old primary comes back as the standby")
    passfile = site.directory / "passfile-db1"
    passfile.write_text(f"127.0.0.1:{DB['db2']}:*:counterfoil_replication:{site.passwords['replication']}\n")
    shutil.chown(passfile, "postgres", "postgres")
    passfile.chmod(0o600)
    site.ask("db2", "SELECT pg_create_physical_replication_slot('db1')")
    # Or pg_rewind takes it for one of the old timeline, before PostgreSQL 16.
    site.ask("db2", "CHECKPOINT")
    rewound = sh(f"""env HOME=/var/lib/postgresql setpriv --reuid=postgres --regid=postgres --init-groups /usr/lib/postgresql/15/bin/pg_rewind \
    --target-pgdata=/var/lib/postgresql/15/cfdb1 --config-file=/etc/postgresql/15/cfdb1/postgresql.conf \
    --source-server='{site.following('db1', 'db2')} dbname=postgres' --write-recovery-conf""", check=False, cwd="/tmp")
    must(rewound.returncode == 0, f"pg_rewind: {rewound.stderr.strip().splitlines()[-1:]}")
    auto = pathlib.Path("/var/lib/postgresql/15/cfdb1/postgresql.auto.conf")
    sh(f"echo \"primary_slot_name = 'db1'\" >> {auto}")
    site.ctl("db1", "start")
    within(60, "it follows", lambda: site.ask("db2", "SELECT application_name FROM pg_stat_replication") == "db1")
    site.ask("db2", "ALTER SYSTEM RESET synchronous_standby_names")
    site.ask("db2", "SELECT pg_reload_conf()")
    within(30, "it is waited for", lambda: site.ask("db2", "SELECT sync_state FROM pg_stat_replication") == "quorum")
    must(caller.login()[0] == 200 and site.ask("db1", "SELECT pg_is_in_recovery()") == "t", "it follows, and commits wait for it")
    after = doctor(site, "after")
    must(after.returncode == 0, "doctor finds no fault")
    standbys(after)

    say("metrics")
    for port in NODES:
        text = Caller(site, port + 1400).ask("GET", "/metrics")[1].decode()
        say("       " + ", ".join(re.findall(r"^(?:counterfoil_log_applied|counterfoil_cache_answers|counterfoil_cache_emptied_total)\S* \d+", text, re.M)))
    say(f"       connections of three nodes: {site.ask('db2', CONNECTIONS)}")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("--keep", action="store_true")
    arguments = arguments.parse_args()
    site = Site(arguments.program)
    try:
        rehearse(site)
    finally:
        site.close(arguments.keep)
    say(f"{len(wrong)} wrong")
    sys.exit(bool(wrong))


main()
