"""A Kerberos of its own on loopback (MIT's, from Debian: krb5-kdc, krb5-admin-server, krb5-user), and an HDFS that asks for its tickets."""

import os
import pathlib
import shutil
import socket
import subprocess
import tempfile

from hadoop import Hadoop, Missing, free_ports, wait_for

REALM = "TROUGH.TEST"
HOST = "localhost"


class Kdc:
    """A key distribution centre with everything it has below `directory`. `env` is what its clients need in their environment."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        for program in ["krb5kdc", "kdb5_util", "kadmin.local", "kinit"]:
            if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin"):
                raise Missing(f"no {program}; Debian has it in krb5-kdc, krb5-admin-server and krb5-user")
        [self.port] = free_ports(1)
        conf = self.dir / "krb5.conf"
        conf.write_text(f"""[libdefaults]
  default_realm = {REALM}
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  rdns = false
  udp_preference_limit = 1
[realms]
  {REALM} = {{
    kdc = 127.0.0.1:{self.port}
  }}
""")
        (self.dir / "kdc.conf").write_text(f"""[kdcdefaults]
  kdc_listen = 127.0.0.1:{self.port}
  kdc_tcp_listen = 127.0.0.1:{self.port}
[realms]
  {REALM} = {{
    database_name = {self.dir}/principal
    key_stash_file = {self.dir}/stash
    acl_file = {self.dir}/kadm5.acl
  }}
""")
        self.env = {"KRB5_CONFIG": str(conf)}
        self.process = None

    def start(self):
        self.run("kdb5_util", "create", "-s", "-r", REALM, "-P", "secret")
        with open(self.dir / "kdc.log", "ab") as log:
            self.process = subprocess.Popen([self.program("krb5kdc"), "-n"], env=self.all_env(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def answers():
            if self.process.poll() is not None:
                raise RuntimeError((self.dir / "kdc.log").read_text()[-2000:])
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        wait_for("the KDC", answers, 30)
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(20)

    def keytab(self, principal):
        """Makes a principal with a key that nobody knows, and gives its keytab."""
        path = self.dir / f"{principal.replace('/', '-')}.keytab"
        self.run("kadmin.local", "-q", f"addprinc -randkey {principal}")
        self.run("kadmin.local", "-q", f"ktadd -k {path} {principal}")
        return path

    def ticket(self, principal, keytab):
        """A cache of tickets, as `kinit` makes one."""
        cache = self.dir / f"{principal.replace('/', '-')}.ccache"
        self.run("kinit", "-c", str(cache), "-kt", str(keytab), principal)
        return cache

    @staticmethod
    def program(name):
        return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin")

    def all_env(self):
        return {**os.environ, **self.env, "KRB5_KDC_PROFILE": str(self.dir / "kdc.conf")}

    def run(self, name, *arguments):
        done = subprocess.run([self.program(name), *arguments], env=self.all_env(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} {' '.join(arguments)}: {done.stderr or done.stdout}")


class Secured(Hadoop):
    """An HDFS that lets nobody in without a ticket. `protection`: what its data nodes ask for besides (dfs.data.transfer.protection)."""

    def __init__(self, directory, kdc, protection=None):
        super().__init__(directory)
        self.kdc, self.protection = kdc, protection
        self.service = f"hdfs/{HOST}"
        self.keys = kdc.keytab(self.service)
        # What the JVMs that it starts are told, and its commands as HDFS's own user.
        os.environ |= {**kdc.env, "JDK_JAVA_OPTIONS": f"-Djava.security.krb5.conf={kdc.env['KRB5_CONFIG']}",
                       "KRB5CCNAME": str(kdc.ticket(self.service, self.keys))}

    def properties(self):
        principal = f"{self.service}@{REALM}"
        parts = {f"dfs.{part}.{what}": value for part in ["namenode", "datanode"]
                 for what, value in [("kerberos.principal", principal), ("keytab.file", str(self.keys))]}
        protection = {"dfs.data.transfer.protection": self.protection} if self.protection else {}
        return {**super().properties(), **parts, **protection, "dfs.block.access.token.enable": "true", "dfs.webhdfs.enabled": "false",
                "ignore.secure.ports.for.testing": "true"}

    def configure(self):
        super().configure()
        path = self.conf / "core-site.xml"
        path.write_text(path.read_text().replace("</configuration>", "  <property><name>hadoop.security.authentication</name>"
                        "<value>kerberos</value></property>\n</configuration>"))

    # By commands: WebHDFS would want tickets over HTTP.

    def webhdfs(self, method, path, op, permission="755", **query):
        if op != "MKDIRS":
            raise ValueError(op)
        self.dfs("-mkdir", "-p", path)
        self.dfs("-chmod", permission, path)

    def write(self, path, content):
        with tempfile.NamedTemporaryFile(dir=self.dir) as file:
            file.write(content)
            file.flush()
            self.dfs("-mkdir", "-p", str(pathlib.PurePosixPath(path).parent))
            self.dfs("-put", "-f", file.name, path)

    def read(self, path):
        with tempfile.TemporaryDirectory(dir=self.dir) as folder:
            self.dfs("-get", path, f"{folder}/file")
            return pathlib.Path(folder, "file").read_bytes()

    def names(self, path):
        return [line.rpartition("/")[2] for line in self.dfs("-ls", "-C", path).splitlines()]

    def rename(self, path, target):
        self.dfs("-mv", path, target)
