//! The choices that make an image: taken from a seed, recorded, and replayed with some of them set to 0.
//!
//! 0 always stands for what an ordinary image has, so setting choices to 0 shrinks an image without any knowledge of
//! what it is made of.

use std::collections::{BTreeMap, BTreeSet};

/// How many tokens are planted. Some of them end up in parts that are not used.
const MOST_TOKENS: usize = 5;

/// A made-up token that some file or document of an image has.
#[derive(Clone, Debug)]
pub struct Token {
    pub text: String,
    pub place: String,
    /// Whether the bytes around it are read in one way only, so that whoever has the blob has the token. Otherwise it
    /// counts only in the root file system of a runtime.
    pub certain: bool,
}

/// The choices of each part of an image.
pub type Choices = BTreeMap<Part, Vec<u32>>;

/// Parts have choices of their own, so that one with fewer of them does not shift those of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Amount,
    Scenario,
    Entries,
    Archives,
    Config,
    Manifest,
    List,
    Members,
}

/// An image while its parts are chosen.
pub struct Draft {
    seed: u64,
    random: Option<fastrand::Rng>,
    part: Part,
    replayed: Choices,
    pub taken: Choices,
    /// What is unusual about the image.
    pub mutations: BTreeSet<String>,
    pub tokens: Vec<Token>,
}

impl Draft {
    /// An image of its own for each seed.
    pub fn random(seed: u64) -> Draft {
        Draft { random: Some(fastrand::Rng::with_seed(seed)), ..Draft::replay(seed, &Choices::new()) }
    }

    /// The image that these choices make, and 0 for all others.
    pub fn replay(seed: u64, choices: &Choices) -> Draft {
        Draft {
            seed,
            random: None,
            part: Part::Amount,
            replayed: choices.clone(),
            taken: Choices::new(),
            mutations: BTreeSet::new(),
            tokens: Vec::new(),
        }
    }

    /// Says what the choices from here on are about.
    pub fn begin(&mut self, part: Part) {
        self.part = part;
    }

    /// A number less than `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u32::try_from(limit).unwrap();
        let taken = self.taken.entry(self.part).or_default();
        let replayed = || self.replayed.get(&self.part).and_then(|choices| choices.get(taken.len()));
        let choice = match &mut self.random {
            Some(random) => random.u32(..limit),
            None => replayed().map_or(0, |choice| choice % limit),
        };
        taken.push(choice);
        choice as usize
    }

    /// Whether something happens that does so in `percent` of a hundred images, and not in a shrunk one.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    /// One of `options`, of which the first is the ordinary one.
    pub fn pick<'a, T>(&mut self, options: &'a [T]) -> &'a T {
        &options[self.below(options.len())]
    }

    /// One of `options`, noted as a mutation unless it is the first.
    pub fn mutate<'a, T>(&mut self, what: &str, options: &'a [(&str, T)]) -> &'a T {
        let choice = self.below(options.len());
        let (name, option) = &options[choice];
        if choice > 0 {
            self.note(format!("{what}: {name}"));
        }
        option
    }

    /// Like [`Draft::mutate`], but the ordinary one in all but `percent` of a hundred images: for what is decided
    /// besides something else, and would hide it.
    pub fn vary<'a, T>(&mut self, percent: usize, what: &str, options: &'a [(&str, T)]) -> &'a T {
        if self.chance(percent) { self.mutate(what, options) } else { &options[0].1 }
    }

    /// Records what is unusual.
    pub fn note(&mut self, mutation: impl Into<String>) {
        self.mutations.insert(mutation.into());
    }

    /// A new token, or text without one where the image has enough.
    pub fn token(&mut self, place: &str) -> String {
        if self.tokens.len() == MOST_TOKENS {
            return "x".repeat(40);
        }
        let text = made_up(self.seed, self.tokens.len() as u64);
        self.tokens.push(Token { text: text.clone(), place: place.to_string(), certain: true });
        text
    }

    /// A line of a file, with a new token.
    pub fn line(&mut self, place: &str) -> Vec<u8> {
        format!("export GITHUB_TOKEN={}\n", self.token(place)).into_bytes()
    }

    /// Says that the tokens since the first `count` are among bytes that readers may take in several ways.
    pub fn doubt_since(&mut self, count: usize) {
        self.tokens[count..].iter_mut().for_each(|token| token.certain = false);
    }
}

/// A GitHub token with its checksum: 30 characters, and their CRC-32 in base 62.
fn made_up(seed: u64, number: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(31).wrapping_add(number));
    let mut text: String = (0..30).map(|_| DIGITS[random.usize(..62)] as char).collect();
    let checksum = crc32fast::hash(text.as_bytes());
    text.extend((0..6).rev().map(|place| DIGITS[(checksum / 62u32.pow(place) % 62) as usize] as char));
    format!("ghp_{text}")
}
