"""The Debian packages: made, looked through, installed into a bare Debian, used there as the user trough, removed and purged.

The bare Debian is made once, by mmdebstrap, and kept in target/deploy; what is installed runs in it by chroot, as root only may."""

import contextlib
import os
import pathlib
import shutil
import subprocess

import pytest
from harness import ROOT, free_ports, http, wait_for

BASE = pathlib.Path(os.environ.get("DEPLOY_BASE", ROOT / "target/deploy/installed.tar"))
INCLUDE = "adduser,systemd,systemd-sysv,ca-certificates,postgresql-15,procps,python3-minimal"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: chroot, dpkg"),
    pytest.mark.skipif(not shutil.which("cargo-deb"), reason="no cargo-deb; install it with: cargo install --locked cargo-deb"),
]


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """The packages of what is built, by name."""
    out = tmp_path_factory.mktemp("packages")
    made = run(ROOT / "scripts/deb.sh", out, env={**os.environ, "DEB_FAST": "1"}).splitlines()[-2:]
    return {pathlib.Path(path).name.split("_")[0]: pathlib.Path(path) for path in made}


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """A bare Debian, in which a test may do what it likes."""
    if not BASE.exists():
        if not shutil.which("mmdebstrap"):
            pytest.skip("no mmdebstrap; install it with: scripts/setup.sh test")
        BASE.parent.mkdir(parents=True, exist_ok=True)
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={INCLUDE}", "bookworm", BASE.with_suffix(".new.tar"))
        BASE.with_suffix(".new.tar").rename(BASE)
    root = tmp_path_factory.mktemp("debian")
    os.chmod(root, 0o755)
    run("tar", "-xf", BASE, "-C", root, "--exclude=./dev/*")
    for parent in root.parents:  # the users in it must be able to get there
        if parent.is_relative_to("/tmp") and parent != pathlib.Path("/tmp"):
            os.chmod(parent, 0o755)
    return root


class Inside:
    """Commands in the chroot; with a mount namespace and processes of its own."""

    def __init__(self, root):
        self.root = root

    def command(self, *command, user=None, environment=()):
        setup = f"mount -t proc proc {self.root}/proc; mount --rbind /dev {self.root}/dev; mount -t tmpfs tmpfs {self.root}/run; exec chroot {self.root} \"$@\""
        who = ["setpriv", "--reuid", user, "--regid", user, "--init-groups", "--no-new-privs", "--bounding-set=-all"] if user else []
        variables = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", *environment]
        return ["unshare", "-m", "sh", "-ec", setup, "sh", *variables, *who, *map(str, command)]

    def run(self, *command, **how):
        return run(*self.command(*command, **how))

    @contextlib.contextmanager
    def start(self, *command, log, **how):
        with open(log, "ab") as out:
            process = subprocess.Popen(self.command(*command, **how), stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def test_what_is_in_them(packages):
    listing = run("dpkg-deb", "-c", packages["trough"])
    for path in ("./usr/bin/trough", "./usr/bin/trough-shell -> trough", "./etc/trough/settings.yml", "./usr/lib/systemd/system/trough-worker.service",
                 "./usr/lib/systemd/system/trough-cold.service", "./usr/lib/systemd/system/trough-sync.service",
                 "./usr/lib/systemd/system/trough-meta.service", "./usr/share/man/man1/trough.1.gz", "./usr/share/man/man1/trough-shell.1.gz",
                 "./usr/share/bash-completion/completions/trough", "./usr/share/doc/trough/OPERATIONS.md"):
        assert f"{path}\n" in listing, path
    assert "/etc/trough/settings.yml" in run("dpkg-deb", "-I", packages["trough"], "conffiles")
    extension = run("dpkg-deb", "-c", packages["postgresql-15-pg-trough"])
    for path in ("lib/postgresql/15/lib/pg_trough.so", "share/postgresql/15/extension/pg_trough.control",
                 *(f"share/postgresql/15/extension/{p.name}" for p in ROOT.glob("sql/pg_trough--*.sql"))):
        assert f"./usr/{path}\n" in extension, path
    for package in packages.values():
        assert "libc6" in run("dpkg-deb", "-f", package, "Depends")


@pytest.mark.skipif(not shutil.which("lintian"), reason="no lintian")
def test_lintian_has_nothing_to_say(packages):
    for package in packages.values():
        said = subprocess.run(["lintian", "--allow-root", package], capture_output=True, text=True).stdout
        assert said == "", said


def test_a_life(packages, debian, tmp_path):
    inside = Inside(debian)
    for package in packages.values():
        shutil.copy(package, debian / "tmp")
    said = inside.run("dpkg", "-i", *(f"/tmp/{p.name}" for p in packages.values()))
    assert "error" not in said.lower(), said
    assert inside.run("getent", "passwd", "trough").strip().endswith(":/var/lib/trough:/usr/sbin/nologin")
    assert inside.run("stat", "-c", "%U:%G %a", "/etc/trough", "/etc/trough/settings.yml", "/var/lib/trough/store").split("\n")[:3] == [
        "root:trough 750", "root:trough 640", "trough:trough 750"]
    # No unit is enabled by itself.
    assert not list((debian / "etc/systemd/system").rglob("trough-*.service"))
    inside.run("systemd-analyze", "verify", "--man=no", *(f"trough-{u}.service" for u in ("worker", "cold", "sync", "meta")))

    meta, sync, read, write, manage, postgres = free_ports(6)
    # As the units start them, with the installed settings; only the ports are other ones, as others may have these.
    environment = [f"TROUGH_RETHINKDB_HOSTS=127.0.0.1:{meta}", f"TROUGH_SYNC_SERVER_PORT={sync}", f"TROUGH_READ_PORT={read}", f"TROUGH_WRITE_PORT={write}",
                   f"TROUGH_SYNC_LOCAL_PORT={manage}", "TROUGH_ELECTION_CYCLE=1", "TROUGH_SYNC_LOOP_TIMING=1", "TROUGH_HOSTNAME=w1"]
    as_trough = {"user": "trough", "environment": environment, "log": tmp_path / "daemons.log"}
    with (inside.start("/usr/bin/trough", "meta", "--dir", "/var/lib/trough/meta", "--listen", f"127.0.0.1:{meta}", **as_trough),
          inside.start("/usr/bin/trough", "sync", **as_trough), inside.start("/usr/bin/trough", "worker", **as_trough)):
        for port in (sync, read):
            wait_for("a daemon", lambda port=port: http("GET", f"http://127.0.0.1:{port}/readyz").status == 200)
        assert inside.run("trough", "health", "worker", user="trough", environment=environment) == "ready\n"
        sql(inside, postgres, meta, tmp_path)
        # It may look while a segment's write lock is given up and its copy is taken over.
        wait_for("a good report", lambda: "0 wrong" in inside.run("trough", "doctor", user="trough", environment=environment))

    inside.run("dpkg", "-r", "postgresql-15-pg-trough", "trough")
    assert not (debian / "usr/bin/trough").exists() and (debian / "etc/trough/settings.yml").exists()
    assert not (debian / "usr/lib/postgresql/15/lib/pg_trough.so").exists()
    said = inside.run("dpkg", "-P", "trough")
    assert "/var/lib/trough holds data and is left" in said
    assert not (debian / "etc/trough/settings.yml").exists() and not (debian / "usr/lib/systemd/system/trough-worker.service").exists()
    assert list((debian / "var/lib/trough/worker").glob("*.sqlite")), "segments may lie nowhere else"


def sql(inside, port, meta, tmp_path):
    """The installed extension, in a PostgreSQL of its own: from CREATE EXTENSION to the canonical store."""
    program = "/usr/lib/postgresql/15/bin"
    inside.run(f"{program}/initdb", "-D", "/var/lib/postgresql/data", "-A", "trust", "-U", "postgres", user="postgres")
    server = [f"{program}/postgres", "-D", "/var/lib/postgresql/data", "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1",
              "-c", "unix_socket_directories="]
    ask = ["psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", port, "-U", "postgres"]
    with inside.start(*server, user="postgres", log=tmp_path / "postgres.log"):
        wait_for("PostgreSQL", lambda: inside.run("pg_isready", "-h", "127.0.0.1", "-p", port))
        for statement in (
            "CREATE EXTENSION pg_trough",
            f"CREATE SERVER archive FOREIGN DATA WRAPPER trough_fdw OPTIONS (rethinkdb 'rethinkdb://127.0.0.1:{meta}/trough_configuration')",
            "CREATE USER MAPPING FOR CURRENT_USER SERVER archive",
            "SELECT trough.register_schema('archive', 'log', 'CREATE TABLE log (n INTEGER NOT NULL, t TEXT) STRICT;')",
            'IMPORT FOREIGN SCHEMA "log" FROM SERVER archive INTO public',
            "INSERT INTO log SELECT 'day-' || n % 3, n, 'x' FROM generate_series(1, 300) n",
        ):
            inside.run(*ask, "-c", statement)
        assert inside.run(*ask, "-c", "SELECT count(DISTINCT segment), count(*), sum(n) FROM log").strip() == "3|300|45150"
        promoted = "SELECT count(*) FROM trough.promote('archive', ARRAY['day-0', 'day-1', 'day-2']) WHERE error IS NULL"
        assert inside.run(*ask, "-c", promoted).strip() == "3"
    assert len(list((inside.root / "var/lib/trough/store").rglob("day-*.sqlite"))) == 3
