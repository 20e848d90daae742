//! `hook install` and `hook uninstall`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::{error_of, run_in};

const FILES: [(&str, &str); 4] = [
    ("claude", ".claude/settings.json"),
    ("codex", ".codex/hooks.json"),
    ("cursor", ".cursor/hooks.json"),
    ("copilot", ".copilot/hooks/layersift.json"),
];

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run_in(home, &[&["hook"], arguments].concat(), b"");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), error_of(&output))
}

#[test]
fn every_assistant_gets_its_settings_once_and_loses_them_again() {
    let home = tempfile::tempdir().unwrap();
    for (name, file) in FILES {
        let path = home.path().join(file);
        let (status, shown, _) = run(home.path(), &["install", "--assistant", name, "--dry-run"]);
        assert_eq!(status, Some(0));
        assert!(shown.starts_with("--- /dev/null\n+++ ") && shown.contains("hook || exit 2"), "{shown}");
        assert!(!path.exists());
        let (status, _, said) = run(home.path(), &["install", "--assistant", name, "--yes"]);
        assert_eq!(status, Some(0), "{said}");
        let first = fs::read_to_string(&path).unwrap();
        let (status, shown, said) = run(home.path(), &["install", "--assistant", name, "--yes"]);
        assert_eq!((status, &shown[..]), (Some(0), ""), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(run(home.path(), &["uninstall", "--assistant", name, "--yes"]).0, Some(0));
        assert!(!fs::read_to_string(&path).unwrap().contains("layersift"));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file stayed");
    }
    let vibe = home.path().join(".vibe/hooks.toml");
    assert_eq!(run(home.path(), &["install", "--assistant", "vibe", "--yes"]).0, Some(0));
    let hooks: toml::Table = fs::read_to_string(&vibe).unwrap().parse().unwrap();
    assert_eq!(hooks["hooks"].as_array().unwrap().len(), 2);
    assert_eq!(hooks["hooks"][0]["strict"].as_bool(), Some(true));
}

#[test]
fn the_installed_command_blocks_through_a_shell() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(run(home.path(), &["install", "--assistant", "claude", "--yes"]).0, Some(0));
    let settings = read(&home.path().join(".claude/settings.json"));
    let command = settings["hooks"]["UserPromptSubmit"][0]["hooks"][0]["command"].as_str().unwrap().to_string();
    let status = |command: &str| {
        Command::new("sh").args(["-c", command]).stdin(Stdio::null()).stderr(Stdio::null()).status().unwrap().code()
    };
    assert_eq!(status(&command), Some(2));
    // A program that is gone.
    assert_eq!(status(&command.replace("/layersift", "/gone")), Some(2));
}

#[test]
fn settings_of_others_stay() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".claude/settings.json");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let theirs = "{\n\t\"model\": \"m\",\n\t\"hooks\": {\n\t\t\"Stop\": [ {\"hooks\": []} ]\n\t},\n\t\"a\": [1,2]\n}\n";
    fs::write(&path, theirs).unwrap();
    let (status, shown, _) = run(home.path(), &["install", "--yes"]);
    assert_eq!(status, Some(0));
    assert!(shown.contains("+\t\t\"UserPromptSubmit\": [\n") && shown.contains(" \t\"a\": [1,2]\n"), "{shown}");
    let settings = read(&path);
    assert_eq!((&settings["model"], &settings["a"]), (&json!("m"), &json!([1, 2])));
    assert_eq!(settings["hooks"].as_object().unwrap().len(), 4);
    assert_eq!(run(home.path(), &["uninstall", "--yes"]).0, Some(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), theirs);
}

#[test]
fn a_project_has_settings_for_everybody() {
    let project = tempfile::tempdir().unwrap();
    assert_eq!(run(project.path(), &["install", "--project", "--assistant", "copilot", "--yes"]).0, Some(0));
    let hooks = read(&project.path().join(".github/hooks/layersift.json"));
    assert_eq!(hooks["hooks"]["preToolUse"][0]["bash"], "layersift hook || exit 2");
    let (_, _, _) = run(project.path(), &["install", "--project", "--assistant", "copilot", "--yes", "--fail", "open"]);
    let hooks = read(&project.path().join(".github/hooks/layersift.json"));
    assert_eq!(hooks["hooks"]["preToolUse"].as_array().unwrap().len(), 1);
    assert_eq!(hooks["hooks"]["preToolUse"][0]["bash"], "layersift hook --fail open");
}

#[test]
fn nothing_is_changed_without_an_answer_or_in_a_file_that_is_not_understood() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".claude/settings.json");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let (status, _, said) = run(home.path(), &["install"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("--yes") && !path.exists(), "{said}");
    for wrong in ["{", "// mine\n{}", "[]", "{\"hooks\": []}"] {
        fs::write(&path, wrong).unwrap();
        let (status, _, said) = run(home.path(), &["install", "--yes"]);
        assert_eq!(status, Some(2), "{wrong}");
        assert!(said.contains("settings.json is unchanged"), "{said}");
        assert_eq!(fs::read_to_string(&path).unwrap(), wrong);
    }
    let empty = tempfile::tempdir().unwrap();
    let (status, _, said) = run(empty.path(), &["install", "--yes"]);
    assert_eq!(status, Some(2));
    assert!(said.contains("--assistant"), "{said}");
}

#[cfg(unix)]
#[test]
fn links_stay_links() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".claude")).unwrap();
    fs::write(home.path().join("dotfiles.json"), "{}\n").unwrap();
    let link = home.path().join(".claude/settings.json");
    std::os::unix::fs::symlink("../dotfiles.json", &link).unwrap();
    assert_eq!(run(home.path(), &["install", "--yes"]).0, Some(0));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(home.path().join("dotfiles.json")).unwrap().contains("hook || exit 2"));
}

#[cfg(unix)]
#[test]
fn a_link_to_a_file_that_is_not_there_stays_a_link() {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".claude")).unwrap();
    let link = home.path().join(".claude/settings.json");
    std::os::unix::fs::symlink("../dotfiles/claude.json", &link).unwrap();
    assert_eq!(run(home.path(), &["install", "--yes"]).0, Some(0));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(home.path().join("dotfiles/claude.json")).unwrap().contains("hook || exit 2"));
}

#[test]
fn settings_that_are_not_understood_do_not_stop_the_others() {
    let home = tempfile::tempdir().unwrap();
    let vibe = home.path().join(".vibe/hooks.toml");
    fs::create_dir(vibe.parent().unwrap()).unwrap();
    fs::write(&vibe, "[[hooks]").unwrap();
    let all: Vec<&str> =
        FILES.iter().map(|(name, _)| *name).chain(["vibe"]).flat_map(|name| ["--assistant", name]).collect();
    for command in ["install", "uninstall"] {
        let (status, _, said) = run(home.path(), &[&[command, "--yes"], &all[..]].concat());
        assert_eq!(status, Some(2), "{said}");
        assert!(said.contains("hooks.toml is unchanged"), "{said}");
        for (name, file) in FILES {
            let text = fs::read_to_string(home.path().join(file)).unwrap();
            assert_eq!(text.contains("hook || exit 2"), command == "install", "{name}");
        }
    }
    assert_eq!(fs::read_to_string(&vibe).unwrap(), "[[hooks]");
}

#[cfg(unix)]
#[test]
fn a_program_of_another_name_knows_its_entries() {
    let home = tempfile::tempdir().unwrap();
    let programs = tempfile::tempdir().unwrap();
    let copy = |name: &str| {
        let path = programs.path().join(name);
        fs::hard_link(env!("CARGO_BIN_EXE_layersift"), &path)
            .or_else(|_| fs::copy(env!("CARGO_BIN_EXE_layersift"), &path).map(drop))
            .unwrap();
        path
    };
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).arg("hook").args(arguments).env("HOME", home.path()).output().unwrap();
        (output.status.code(), error_of(&output))
    };
    fs::create_dir(home.path().join(".vibe")).unwrap();
    let files = || FILES.map(|(_, file)| fs::read_to_string(home.path().join(file)).unwrap());
    let all: Vec<&str> =
        FILES.iter().map(|(name, _)| *name).chain(["vibe"]).flat_map(|name| ["--assistant", name]).collect();
    let (versioned, other) = (copy("layersift-r3"), copy("sift"));
    for program in [&versioned, &other] {
        assert_eq!(run(program, &[&["install", "--yes"], &all[..]].concat()).0, Some(0));
        let first = files();
        let (status, said) = run(program, &[&["install", "--yes"], &all[..]].concat());
        assert_eq!((status, said.contains("Nothing to change.")), (Some(0), true), "{said}");
        assert_eq!(run(program, &[&["install", "--yes", "--fail", "open"], &all[..]].concat()).0, Some(0));
        for (before, after) in first.iter().zip(files()) {
            assert_eq!(before.matches(" hook ").count(), after.matches(" hook ").count(), "{after}");
            assert!(!after.contains("exit 2") && after.contains("--fail open"), "{after}");
        }
        assert_eq!(run(program, &[&["uninstall", "--yes"], &all[..]].concat()).0, Some(0));
        assert!(files().iter().all(|text| !text.contains("hook --fail")), "{:?}", files());
    }
}
