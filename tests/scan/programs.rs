//! What is compiled or stored away is read like anything else: Python bytecode, Java classes, SQLite databases and
//! programs made of Node and a script in one file. Python makes the files, the bytecode and the database with the very
//! tools that applications use.

use std::process::Command;

use crate::support::{findings, report_of, text};
use layersift_rules::Ruleset;
use layersift_scan::{Analyzer, Options};

const TOKEN: &str = "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";

const SCRIPT: &str = r#"
import os, py_compile, sqlite3, struct, sys
folder, token = sys.argv[1], sys.argv[2]
def at(name): return os.path.join(folder, name)
def put(name, data):
    with open(at(name), "wb") as file: file.write(data)

source = at("settings.py")
with open(source, "w") as file: file.write(f"class Settings:\n    def token(self): return {token!r}\n")
py_compile.compile(source, cfile=at("settings.pyc"), doraise=True)
os.remove(source)

database = sqlite3.connect(at("app.db"))
database.execute("create table accounts (name text, token text, picture blob)")
filler = [(f"user{n}", f"none{n}", os.urandom(900)) for n in range(200)]
database.executemany("insert into accounts values (?, ?, ?)", filler[:100] + [("bot", token, b"")] + filler[100:])
database.commit()
database.close()

# A class file is a pool of constants and little more (JVM specification, section 4.1).
def utf8(value): return b"\x01" + struct.pack(">H", len(value)) + value.encode()
pool = [utf8("App"), b"\x07\x00\x01", utf8("java/lang/Object"), b"\x07\x00\x03", utf8(token), b"\x08\x00\x05"]
put("App.class", b"\xca\xfe\xba\xbe" + struct.pack(">HHH", 0, 52, len(pool) + 1) + b"".join(pool)
    + struct.pack(">HHHHHHH", 0x21, 2, 4, 0, 0, 0, 0))

# The blob that Node looks for at the end of its own program (src/node_sea.cc): a magic number, flags, and strings with
# their lengths.
def string(value): return struct.pack("<Q", len(value)) + value
script = f"module.exports = {{ token: '{token}' }};".encode()
put("server", b"\x7fELF\x02\x01\x01" + bytes(4096) + b"NODE_SEA_BLOB\0"
    + struct.pack("<II", 0x0143da20, 0) + string(b"/app/server.js") + string(script) + bytes(512))
"#;

#[test]
fn secrets_in_programs_and_databases_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let python = Command::new("python3").args(["-c", SCRIPT, text(folder.path()), TOKEN]).status();
    assert!(python.unwrap().success());
    let scanner = Analyzer::new(Ruleset::built_in().unwrap(), Options::default()).unwrap();
    let report = report_of(&scanner, &format!("rootfs:{}", text(folder.path())));
    let tokens = findings(&report).iter().filter(|one| one["rule"] == "github.personal-access-token");
    let mut paths: Vec<&str> = tokens.map(|one| one["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["App.class", "app.db", "server", "settings.pyc"], "{report:#}");
}
