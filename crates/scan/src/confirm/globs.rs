//! An index of the globs of rules: which rules apply to a path.
//!
//! Nearly every glob contains the plain name of a directory or a file, or a file extension. A path is looked up by its
//! own names, and only the globs that share one of them are tried. One set of expressions for all globs would take a
//! quarter of the program's start-up time, and every path would be matched against all of it.

use std::collections::HashMap;
use std::sync::OnceLock;

use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::ConfirmError;
use super::expressions::unreadable;

/// An index of globs.
#[derive(Default)]
pub(super) struct GlobIndex {
    globs: Vec<Entry>,
    /// Globs by a name that must be in the path.
    by_name: HashMap<String, Vec<usize>>,
    /// The lengths of these names, as bits.
    lengths: u64,
    /// Globs by the extension that the path must have.
    by_ending: HashMap<String, Vec<usize>>,
    /// Globs that require neither, also as one set.
    others: Vec<usize>,
    others_set: GlobSet,
}

struct Entry {
    source: String,
    /// Compiled when a path is first tried. A glob that cannot be compiled matches nothing.
    matcher: OnceLock<Option<GlobMatcher>>,
    /// The rules with this glob.
    rules: Vec<usize>,
}

/// A part of every path that a glob matches.
#[derive(Debug, PartialEq, Eq)]
enum Hook<'g> {
    Name(&'g str),
    Ending(&'g str),
}

impl GlobIndex {
    /// An index of rules, given as ids and globs. The globs of the first `valid` rules are known to be valid, and are
    /// not parsed before they are needed.
    ///
    /// # Errors
    /// If a glob is invalid.
    pub(super) fn new<'r>(
        rules: impl Iterator<Item = (&'r str, &'r [String])>,
        valid: usize,
    ) -> Result<GlobIndex, ConfirmError> {
        let mut index = GlobIndex::default();
        let mut others = GlobSetBuilder::new();
        let mut known: HashMap<&str, usize> = HashMap::new();
        for (rule, (id, globs)) in rules.enumerate() {
            for source in globs {
                let place = match known.get(&source[..]) {
                    Some(place) => *place,
                    None => {
                        let has_hook = index.add(source);
                        if rule >= valid || !has_hook {
                            let glob = glob(id, source)?;
                            if !has_hook {
                                others.add(glob);
                            }
                        }
                        index.globs.len() - 1
                    }
                };
                known.insert(source, place);
                index.globs[place].rules.push(rule);
            }
        }
        index.others_set = others.build().map_err(|error| unreadable("the globs of all rules", "", &error))?;
        Ok(index)
    }

    /// The indices of the rules that apply to `path`, without duplicates.
    pub(super) fn at(&self, path: &[u8]) -> Vec<usize> {
        let path = &*String::from_utf8_lossy(path);
        // Most names of a deep path are of no such length.
        let may_be_known = |name: &&str| self.lengths & length_bit(name) != 0;
        let named = path.split('/').filter(may_be_known).filter_map(|name| self.by_name.get(name));
        let ending = path.rsplit_once('.').and_then(|(_, ending)| self.by_ending.get(ending));
        let mut hooked: Vec<usize> = named.chain(ending).flatten().copied().collect();
        // A path can have the same name again and again.
        hooked.sort_unstable();
        hooked.dedup();
        hooked.retain(|place| self.globs[*place].is_match(path));
        let others = self.others_set.matches(path).into_iter().map(|place| self.others[place]);
        let places = hooked.into_iter().chain(others);
        let mut rules: Vec<usize> = places.flat_map(|place| &self.globs[place].rules).copied().collect();
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// Adds the glob `source` as the last one. Returns whether it is found by a name or an extension.
    fn add(&mut self, source: &str) -> bool {
        let place = self.globs.len();
        let hook = hook(source);
        match &hook {
            Some(Hook::Name(name)) => {
                self.lengths |= length_bit(name);
                self.by_name.entry((*name).into()).or_default().push(place);
            }
            Some(Hook::Ending(ending)) => self.by_ending.entry((*ending).into()).or_default().push(place),
            None => self.others.push(place),
        }
        self.globs.push(Entry { source: source.into(), matcher: OnceLock::new(), rules: Vec::new() });
        hook.is_some()
    }
}

impl Entry {
    fn is_match(&self, path: &str) -> bool {
        let compile = || glob("", &self.source).ok().map(|glob| glob.compile_matcher());
        self.matcher.get_or_init(compile).as_ref().is_some_and(|matcher| matcher.is_match(path))
    }
}

/// The bit of the length of `name`. Long names share one.
fn length_bit(name: &str) -> u64 {
    1 << name.len().min(63)
}

/// The longest name in `glob` without a wildcard, or else the extension of its last name.
fn hook(glob: &str) -> Option<Hook<'_>> {
    // A slash may be inside braces and classes, or after a backslash.
    if glob.contains(['{', '[', '\\']) {
        return None;
    }
    let is_plain = |text: &&str| !text.is_empty() && !text.contains(['*', '?']);
    let name = glob.split('/').filter(is_plain).max_by_key(|name| name.len()).map(Hook::Name);
    name.or_else(|| glob.rsplit_once('.').map(|(_, ending)| ending).filter(is_plain).map(Hook::Ending))
}

fn glob(rule: &str, source: &str) -> Result<Glob, ConfirmError> {
    let glob = GlobBuilder::new(source).literal_separator(true).build();
    glob.map_err(|error| unreadable(rule, source, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use layersift_rules::Ruleset;

    #[test]
    fn a_hook_is_in_every_path_that_the_glob_matches() {
        for (glob, expected) in [
            ("**/.aws/credentials", Some(Hook::Name("credentials"))),
            ("**/.claude/debug/*.txt", Some(Hook::Name(".claude"))),
            ("**/*.sql.bak", Some(Hook::Ending("bak"))),
            ("**/.env.*.local", Some(Hook::Ending("local"))),
            ("**/*.tfstate.*", None),
            ("**/*kubeconfig*", None),
            ("**/{id_rsa,id_dsa}", None),
            ("a.b/*", Some(Hook::Name("a.b"))),
            ("**/a?/**", None),
            ("*.d/*", None),
        ] {
            assert_eq!(hook(glob), expected, "{glob}");
        }
    }

    #[test]
    fn a_name_that_comes_again_is_tried_once() {
        let globs = ["**/redis/**/*.conf".to_string()];
        let index = GlobIndex::new([("one", &globs[..]), ("two", &globs[..])].into_iter(), 2).unwrap();
        assert_eq!(index.at(b"redis/redis/redis/a.conf"), [0, 1]);
        assert!(index.at(b"redis/redis/redis/a.txt").is_empty());
    }

    /// Paths that the globs of the built-in rules match, and some that they nearly match.
    fn paths(globs: &[&str]) -> Vec<String> {
        let fillings = [("a/b/", "x"), ("", "y.z"), ("usr/lib/", "")];
        let fill = |glob: &&str| {
            fillings.map(|(above, name)| glob.replace("**/", above).replace("**", "c/d").replace('*', name))
        };
        let near = |path: String| [path.clone(), format!("{path}x"), format!("x{path}"), format!("{path}/e"), path];
        globs.iter().flat_map(fill).flat_map(near).collect()
    }

    #[test]
    fn the_index_finds_what_trying_every_glob_finds() {
        let rules = Ruleset::built_in().unwrap().signatures;
        let extra = ["**/{a,b}/*.c".to_string(), "*.d/*".to_string(), "x?z".to_string(), "**/[ab]*".to_string()];
        let lists: Vec<&[String]> = rules.iter().map(|rule| &rule.paths[..]).chain([&extra[..]]).collect();
        let index = GlobIndex::new(lists.iter().map(|list| ("test.rule", *list)), rules.len()).unwrap();
        let each: Vec<Vec<GlobMatcher>> = lists
            .iter()
            .map(|list| list.iter().map(|source| glob("test.rule", source).unwrap().compile_matcher()).collect())
            .collect();
        let globs: Vec<&str> = lists.iter().flat_map(|list| list.iter().map(String::as_str)).collect();
        for path in paths(&globs) {
            let holds = |globs: &Vec<GlobMatcher>| globs.iter().any(|glob| glob.is_match(&path));
            let expected: Vec<usize> = (0..each.len()).filter(|rule| holds(&each[*rule])).collect();
            assert_eq!(index.at(path.as_bytes()), expected, "{path}");
        }
    }
}
