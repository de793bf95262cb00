"""Starts the real packages: a gunicorn for each package and each profile of its cases, on ports that are free.

    python3 lab.py --cases DIR --directory DIR

--cases is a directory with `scenarios/PACKAGE.json`; --directory takes databases, mails, logs and, when everything
answers, `ports.json`: {package: {profile: {url, reset, mail}}}. `reset` is to be POSTed to before each case. It runs
until it is told to stop, and takes what it started with it. It wants a Python with what `xtask/python/record.txt`
lists, and `redis-server` for djforge.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from labapp import cases

HERE = Path(__file__).resolve().parent
# Longer than anything takes on a busy machine; who waits this long waits for nothing.
PATIENCE_SECONDS = 120
CHANGES_TABLES = {"LAB_CONFIRM_USER", "LAB_NO_LOCK_TABLE"}


class Lab:
    """What runs, to be used in a `with`: on leaving, all of it is stopped."""

    def __init__(self, directory, case_directory, only=None):
        self.directory = Path(directory).resolve()
        self.cases = Path(case_directory).resolve()
        self.packages = [package for package in cases.packages(self.cases) if only is None or package in only]
        self.processes = []
        self.ports = {}

    def __enter__(self):
        shutil.rmtree(self.directory / "sites", ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self.ports

    def __exit__(self, *_):
        self.stop()

    def start(self):
        """Everything, and waits until it answers."""
        redis = self.start_redis() if "djforge" in self.packages else None
        for package in self.packages:
            made = {}
            for number, (profile, about) in enumerate(cases.read(self.cases, package)["profiles"].items()):
                site = self.directory / "sites" / f"{package}-{profile}"
                (site / "mail").mkdir(parents=True)
                environment = self.environment(package, profile, site, f"{redis}/{number}")
                # Sites that differ in no table share the time that making the tables takes.
                kind = frozenset(CHANGES_TABLES & about["settings"].keys())
                if kind in made:
                    shutil.copy(made[kind], site / "db.sqlite3")
                else:
                    subprocess.run([sys.executable, "-m", "labapp.prepare"], env=environment, cwd=HERE, check=True)
                    made[kind] = site / "db.sqlite3"
                self.ports.setdefault(package, {})[profile] = self.serve(site, environment)
        for profiles in self.ports.values():
            for site in profiles.values():
                wait_for(site["reset"])
        ports = self.directory / "ports.json"
        ports.write_text(json.dumps(self.ports, indent=1) + "\n", encoding="utf-8")

    def environment(self, package, profile, site, redis):
        """What `labapp.settings` reads."""
        return os.environ | {
            "LAB_PACKAGE": package,
            "LAB_PROFILE": profile,
            "LAB_CASES": str(self.cases),
            "LAB_DIRECTORY": str(site),
            "LAB_REDIS": redis,
            "DJANGO_SETTINGS_MODULE": "labapp.settings",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def serve(self, site, environment):
        """One worker: what a package keeps in memory is then the same for every request."""
        listener = socket.create_server(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        descriptor = listener.fileno()
        command = [sys.executable, "-m", "gunicorn", "--workers", "1", "--bind", f"fd://{descriptor}"]
        # Workers signal life through a file, which does not wait for a disk here.
        command += ["--worker-tmp-dir", "/dev/shm"] if Path("/dev/shm").is_dir() else []
        with listener, open(site / "log", "wb") as log:
            self.processes.append(
                subprocess.Popen(
                    [*command, "labapp.wsgi"],
                    env=environment,
                    cwd=HERE,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[descriptor],
                )
            )
        return {"url": url, "reset": f"{url}/_lab/reset/", "mail": str(site / "mail")}

    def start_redis(self):
        """A Redis that keeps nothing on disk."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with open(self.directory / "redis.log", "wb") as log:
            self.processes.append(
                subprocess.Popen(
                    ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
        return f"redis://127.0.0.1:{port}"

    def stop(self):
        """Everything that was started, and only that."""
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
        self.processes.clear()


def wait_for(url):
    """Until a POST is answered."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data=b"", method="POST"), timeout=PATIENCE_SECONDS):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def main():
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", required=True)
    options.add_argument("--directory", required=True)
    options.add_argument("--only", action="append", metavar="PACKAGE")
    chosen = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Lab(chosen.directory, chosen.cases, chosen.only) as ports:
        print(f"{sum(map(len, ports.values()))} sites answer; see {chosen.directory}/ports.json", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
