//! Names that are told apart.

use std::collections::HashMap;

/// `name` if it is free, or else `name` with `mark` and the next number. `next` has the numbers of names so far, so
/// that any number of equal names takes time in proportion to it.
pub(crate) fn unique(
    next: &mut HashMap<String, u64>,
    name: String,
    mark: char,
    is_taken: impl Fn(&str) -> bool,
) -> String {
    if !is_taken(&name) {
        return name;
    }
    let number = next.entry(name.clone()).or_insert(1);
    loop {
        *number += 1;
        let numbered = format!("{name}{mark}{number}");
        if !is_taken(&numbered) {
            return numbered;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn equal_names_are_numbered_in_proportion_to_their_number() {
        let (mut next, mut taken, looks) = (HashMap::new(), HashSet::new(), Cell::new(0));
        for name in ["a+2".to_string(), "a+4".to_string()].into_iter().chain(vec!["a".to_string(); 10_000]) {
            let name = unique(&mut next, name, '+', |name| {
                looks.set(looks.get() + 1);
                taken.contains(name)
            });
            assert!(taken.insert(name));
        }
        assert!(looks.get() < 3 * 10_000, "{}", looks.get());
        assert!(taken.contains("a+10002") && !taken.contains("a+10003"));
    }
}
