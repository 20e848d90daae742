//! Which process has a lease, and whether it is alive: only another process on the same host can say.
//!
//! A process is known by the boot of its host, its namespaces, its number and the time it started. Between two hosts,
//! two containers or two boots nothing is known, and the lease is waited for.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// This process; `None` where the system does not say enough, as outside of Linux.
pub(super) fn own() -> Option<&'static str> {
    static OWN: OnceLock<Option<String>> = OnceLock::new();
    let identity = || {
        let number = std::process::id();
        // A /proc of another namespace has other numbers.
        let seen = fs::read_link("/proc/self").ok()?;
        let (state, start) = stat(number)?;
        let is_known = seen.to_str() == Some(&number.to_string()) && !is_gone(state);
        let host = host().filter(|_| is_known)?;
        Some(format!("{host}{number}/{start}"))
    };
    OWN.get_or_init(identity).as_deref()
}

/// What the identities of all processes begin with that this one can see; it ends with a slash.
pub(super) fn host() -> Option<&'static str> {
    static HOST: OnceLock<Option<String>> = OnceLock::new();
    let identity = || {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let namespace = |name: &str| Some(fs::read_link(format!("/proc/self/ns/{name}")).ok()?.to_str()?.to_string());
        // The time namespace shifts the times that processes started at. Old kernels have none.
        let time = namespace("time").unwrap_or_default();
        Some(format!("{}/{}/{time}/", boot.trim(), namespace("pid")?))
    };
    HOST.get_or_init(identity).as_deref()
}

/// Which processes are dead, each looked at once.
#[derive(Default)]
pub(super) struct Processes {
    dead: HashMap<String, bool>,
}

impl Processes {
    /// Whether the process with this identity is known to be dead.
    pub(super) fn is_dead(&mut self, identity: &str) -> bool {
        if let Some(known) = self.dead.get(identity) {
            return *known;
        }
        let is_dead = is_dead(identity).unwrap_or(false);
        self.dead.insert(identity.to_string(), is_dead);
        is_dead
    }
}

/// `None` where it cannot be known.
fn is_dead(identity: &str) -> Option<bool> {
    // A process that does not know itself does not know where it looks.
    own()?;
    let (number, start) = identity.strip_prefix(host()?)?.split_once('/')?;
    let number: u32 = number.parse().ok()?;
    // The system call, and not /proc, which may hide the processes of other users.
    if test_kill_process(Pid::from_raw(number.try_into().ok()?)?) == Err(Errno::SRCH) {
        return Some(true);
    }
    let (state, started) = stat(number)?;
    Some(is_gone(state) || started != start)
}

/// Whether a process in this state only waits for its parent to take note of its end.
fn is_gone(state: char) -> bool {
    matches!(state, 'Z' | 'X')
}

/// The state of a process and the time it started, in ticks since the boot (proc(5), /proc/pid/stat, fields 3 and 22).
fn stat(number: u32) -> Option<(char, String)> {
    let text = fs::read_to_string(format!("/proc/{number}/stat")).ok()?;
    // The name of the program, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.to_string()))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn identity(number: u32) -> String {
        format!("{}{number}/{}", host().unwrap(), stat(number).unwrap().1)
    }

    #[test]
    fn a_process_is_dead_when_it_ended_and_not_before() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let identity = identity(child.id());
        assert_eq!(is_dead(&identity), Some(false));
        child.kill().unwrap();
        // It ended, and its parent has not taken note.
        while stat(child.id()).is_some_and(|(state, _)| !is_gone(state)) {}
        assert_eq!(is_dead(&identity), Some(true));
        child.wait().unwrap();
        assert_eq!(is_dead(&identity), Some(true));
    }

    #[test]
    fn another_process_with_the_same_number_is_not_taken_for_it() {
        let own = own().unwrap();
        assert_eq!(is_dead(own), Some(false));
        assert_eq!(is_dead(&format!("{own}9")), Some(true), "started at another time");
    }

    #[test]
    fn nothing_is_known_of_other_hosts_and_namespaces() {
        let dead = format!("{}/1", u32::MAX / 2);
        assert_eq!(is_dead(&format!("{}{dead}", host().unwrap())), Some(true));
        for other in ["", "x", "another-boot/pid:[1]/time:[1]/1/1", &format!("{}/{dead}", "a/b/c")] {
            assert_eq!(is_dead(other), None, "{other}");
        }
        let namespace = host().unwrap().replace("pid:[", "pid:[9");
        assert_eq!(is_dead(&format!("{namespace}{dead}")), None);
        assert!(!Processes::default().is_dead(&format!("{namespace}{dead}")));
    }
}
