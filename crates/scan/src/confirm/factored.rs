//! Expressions whose alternatives begin alike, made smaller: `apple|apply|bar` becomes `appl(?:e|y)|bar`.
//!
//! A search by backtracking tries all alternatives at each byte. A rule for the tokens of two hundred services, in any
//! case, takes half a microsecond for a byte as it is written. `regex` does this for literals, and not for those that
//! match in any case.

use regex_syntax::hir::{Class, ClassBytes, ClassBytesRange, Hir, HirKind, Literal};

/// How many bytes from its beginning an alternative is compared with others.
const DEEPEST: usize = 16;

/// `hir` with what alternatives have in common written once. It has the same matches, of which it prefers the same.
pub(super) fn factored(hir: Hir) -> Hir {
    match hir.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Repetition(mut one) => {
            one.sub = Box::new(factored(*one.sub));
            Hir::repetition(one)
        }
        HirKind::Capture(mut one) => {
            one.sub = Box::new(factored(*one.sub));
            Hir::capture(one)
        }
        HirKind::Concat(all) => Hir::concat(all.into_iter().map(factored).collect()),
        HirKind::Alternation(all) => alternation(all.into_iter().map(factored).collect(), DEEPEST),
    }
}

/// Alternatives that begin with the same byte, or class of bytes.
struct Group {
    /// `None` for an alternative that begins with something else.
    first: Option<ClassBytes>,
    rests: Vec<Hir>,
}

fn alternation(all: Vec<Hir>, depth: usize) -> Hir {
    if depth == 0 || all.len() < 2 {
        return Hir::alternation(all);
    }
    let mut groups: Vec<Group> = Vec::new();
    for one in all {
        let (first, rest) = split(one);
        // The one that is written first is preferred, so none may move before another that can match where it does.
        match groups.iter_mut().rev().find(|group| group.may_match_as(first.as_ref())) {
            Some(group) if first.is_some() && group.first == first => group.rests.push(rest),
            _ => groups.push(Group { first, rests: vec![rest] }),
        }
    }
    let hir = |Group { first, rests }: Group| {
        let first = first.map_or_else(Hir::empty, |first| Hir::class(Class::Bytes(first)));
        Hir::concat(vec![first, alternation(rests, depth - 1)])
    };
    Hir::alternation(groups.into_iter().map(hir).collect())
}

impl Group {
    /// Whether an alternative that begins with `first` can match where one of this group does.
    fn may_match_as(&self, first: Option<&ClassBytes>) -> bool {
        let (Some(own), Some(first)) = (&self.first, first) else { return true };
        let mut both = own.clone();
        both.intersect(first);
        !both.ranges().is_empty()
    }
}

/// The class of bytes that `hir` begins with, and the rest; all of it where it begins with something else.
fn split(hir: Hir) -> (Option<ClassBytes>, Hir) {
    if !matches!(hir.kind(), HirKind::Class(Class::Bytes(_)) | HirKind::Literal(_) | HirKind::Concat(_)) {
        return (None, hir);
    }
    match hir.into_kind() {
        HirKind::Class(Class::Bytes(class)) => (Some(class), Hir::empty()),
        HirKind::Literal(Literal(bytes)) => {
            let first = bytes.first().map(|first| ClassBytes::new([ClassBytesRange::new(*first, *first)]));
            (first, Hir::literal(bytes.get(1..).unwrap_or_default()))
        }
        HirKind::Concat(all) => {
            let mut all = all.into_iter();
            let (first, rest) = all.next().map_or((None, Hir::empty()), split);
            (first, Hir::concat([rest].into_iter().chain(all).collect()))
        }
        _ => (None, Hir::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confirm::expressions::parse;

    fn of(expression: &str) -> String {
        factored(parse(expression).unwrap()).to_string()
    }

    #[test]
    fn what_alternatives_have_in_common_is_written_once() {
        assert_eq!(of("(?i:adobe|bitly|adafruit)"), of("(?i:ad(?:obe|afruit)|bitly)"));
        assert_eq!(of("(?i:xa1|y|xb2)z"), of("(?i:x(?:a1|b2)|y)z"));
        assert_eq!(of("(?:[ab]c|[ab]d{2}|q)"), of("(?:[ab](?:c|d{2})|q)"));
    }

    #[test]
    fn alternatives_that_match_at_the_same_place_keep_their_order() {
        for expression in ["(?:ab|[ac]b|abc)", "(?i:ab|.b|abc)", "(?:[ab]|x{0,2}|[ab]c)", r"(?:ab|ab|ac)"] {
            let (plain, smaller) = (parse(expression).unwrap(), factored(parse(expression).unwrap()));
            let engine = |hir: &Hir| regex::bytes::RegexBuilder::new(&hir.to_string()).unicode(false).build().unwrap();
            for text in ["ab", "abc", "cbc", "ac", "xab", "x ac", "b", "xxbc"] {
                let found = |hir| engine(hir).find_iter(text.as_bytes()).map(|one| one.range()).collect::<Vec<_>>();
                assert_eq!(found(&plain), found(&smaller), "{expression} in {text}");
            }
        }
    }

    #[test]
    fn long_alternatives_do_not_nest_deeply() {
        let long = "a".repeat(5_000);
        let hir = factored(parse(&format!("(?i:{long}b|{long}c)")).unwrap());
        assert_eq!(hir.properties().maximum_len(), Some(5_001));
    }
}
