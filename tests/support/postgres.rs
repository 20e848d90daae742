//! A PostgreSQL cluster for the tests of one process, in a temporary directory. It stops when the process ends.
//!
//! PostgreSQL refuses to run as root: then it runs as the user `postgres`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where distributions put the programs of the server, newest first; `PG_BIN` goes before them.
const PLACES: [&str; 6] = [
    "/usr/lib/postgresql/18/bin",
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
    "/usr/bin",
    "/usr/local/bin",
];

/// The server and its directory go when this shell's input ends, also when the tests are killed.
const WATCH: &str = r#"
    "$1/initdb" -D "$2/data" -U layersift -A trust -E UTF8 --no-locale --no-sync >"$2/initdb.log" 2>&1 || exit 1
    "$1/pg_ctl" -D "$2/data" -w -t 60 -l "$2/server.log" -o "$3" start >"$2/start.log" 2>&1 || exit 1
    echo ready
    cat >/dev/null
    "$1/pg_ctl" -D "$2/data" -w -m immediate stop >/dev/null 2>&1
    rm -rf "$2"
"#;

/// No care for crashes.
const HASTY: &str = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off";

/// What is committed survives a crash.
const DURABLE: &str = "-c fsync=on";

/// What the server is started with: a socket in the directory, no network, and as much care as `care` says.
fn options(directory: &Path, care: &str) -> String {
    format!(
        "-c listen_addresses='' -c unix_socket_directories='{}' -c max_connections=200 -c shared_buffers=256MB {care}",
        directory.display()
    )
}

struct Cluster {
    directory: PathBuf,
    _watch: Child,
    _open: ChildStdin,
}

/// The URL of a new, empty database.
pub fn database() -> String {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let cluster = CLUSTER.get_or_init(|| Cluster::start(HASTY));
    let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut admin = ::postgres::Client::connect(&cluster.url("postgres"), ::postgres::NoTls).unwrap();
    admin.batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
    cluster.url(&name)
}

/// A server of one test, which may stop and start it. It ends with this.
pub struct Server(Cluster);

impl Server {
    /// Starts it.
    pub fn start() -> Server {
        Server(Cluster::start(DURABLE))
    }

    /// The URL of its only database.
    pub fn url(&self) -> String {
        self.0.url("postgres")
    }

    /// The directory of its socket.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Stops it: `fast` tells its clients, and `immediate` is as a crash.
    pub fn stop(&self, mode: &str) {
        self.control(&["-m", mode, "stop"]);
    }

    /// Starts it again.
    pub fn start_again(&self) {
        let log = self.0.directory.join("server.log");
        self.control(&["-l", log.to_str().unwrap(), "-o", &options(&self.0.directory, DURABLE), "start"]);
    }

    fn control(&self, arguments: &[&str]) {
        let mut command = as_postgres(&programs().join("pg_ctl"));
        command.arg("-D").arg(self.0.directory.join("data")).args(["-w", "-t", "60"]).args(arguments);
        let command = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "pg_ctl {arguments:?}");
    }
}

/// A command that runs `program` as a user whom PostgreSQL lets run it.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

impl Cluster {
    fn start(care: &str) -> Cluster {
        let programs = programs();
        let directory = tempfile::Builder::new().prefix("layersift-pg").tempdir().unwrap().keep();
        if is_root() {
            let owned = Command::new("chown").arg("postgres").arg(&directory).status();
            assert!(owned.is_ok_and(|status| status.success()), "tests run as root need a user `postgres`");
        }
        let mut shell = as_postgres("sh".as_ref());
        shell.args(["-c", WATCH, "sh"]).arg(&programs).arg(&directory).arg(options(&directory, care));
        let shell = shell.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut watch = shell.spawn().unwrap();
        let mut open = watch.stdin.take().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(watch.stdout.take().unwrap()), &mut line).unwrap();
        if line.trim() != "ready" {
            let logs = ["initdb.log", "start.log", "server.log"].map(|log| directory.join(log));
            let said: String = logs.iter().filter_map(|log| std::fs::read_to_string(log).ok()).collect();
            panic!("PostgreSQL did not start in {}:\n{said}", directory.display());
        }
        open.flush().unwrap();
        Cluster { directory, _watch: watch, _open: open }
    }

    fn url(&self, database: &str) -> String {
        let host = self.directory.to_str().unwrap().replace('/', "%2F");
        format!("postgres://layersift@{host}/{database}")
    }
}

fn programs() -> PathBuf {
    let own = std::env::var_os("PG_BIN").map(PathBuf::from);
    let places = own.into_iter().chain(PLACES.iter().map(PathBuf::from));
    places.into_iter().find(|place| place.join("initdb").exists()).unwrap_or_else(|| {
        panic!("the tests of the store need PostgreSQL's initdb and pg_ctl: install `postgresql`, or set PG_BIN")
    })
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout.trim_ascii() == b"0"
}
