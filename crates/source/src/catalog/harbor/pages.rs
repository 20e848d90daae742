//! Pages: one listing of Harbor, read page by page while it may change.
//!
//! Pages are asked for by number, not by the address of a `Link`: that says only whether there is another one, and
//! must lead to the same registry. Where it is missing, because a proxy does not pass it on, `X-Total-Count` says it.
//!
//! What changes in front of the place that was reached moves everything behind it. Something new moves it back: items
//! come twice, and are given once. Something deleted moves it forward, to pages that were read: then the count is
//! smaller than before, by as much at least, and it is gone back by as many pages.

use std::collections::{HashSet, VecDeque};

use super::wire::{Item, items};
use crate::registry::{Page, Registry, RegistryError};
use layersift_model::Digest;

/// Pages without anything new, one after another, at which a listing is one that does not end.
const MOST_STALE: usize = 3;

/// Characters of a name. Harbor has 255.
const MOST_NAME: usize = 1_024;

/// The items of one listing. An error is the last.
pub(super) struct Pages<T> {
    registry: Registry,
    path: String,
    query: Vec<(&'static str, String)>,
    bounds: Bounds,
    items: VecDeque<T>,
    /// The page to read next, from 1; `None` at the end.
    next: Option<u64>,
    /// How many were read, and how many in a row had nothing new.
    read: usize,
    stale: usize,
    /// What the page before said that there is.
    total: Option<u64>,
    /// The furthest page that was read.
    furthest: u64,
    /// How many items a page has.
    size: u64,
    /// The names of the items that came, as digests: they may be long.
    seen: HashSet<Digest>,
    /// How many items came again.
    pub(super) repeated: u64,
}

/// How much of a listing is read.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Items to ask for at a time.
    pub(super) page: usize,
    /// Pages in all.
    pub(super) pages: usize,
}

impl<T: Item + for<'d> serde::Deserialize<'d>> Pages<T> {
    /// The listing at `path`, escaped, which is asked for with `query`.
    pub(super) fn new(registry: &Registry, path: String, query: Vec<(&'static str, String)>, bounds: Bounds) -> Self {
        Pages {
            registry: registry.clone(),
            path,
            query,
            bounds,
            items: VecDeque::new(),
            next: Some(1),
            read: 0,
            stale: 0,
            total: None,
            furthest: 0,
            size: bounds.page as u64,
            seen: HashSet::new(),
            repeated: 0,
        }
    }

    /// Reads a page, and finds out which one is next.
    fn turn(&mut self, number: u64) -> Result<(), RegistryError> {
        let page = self.page(number)?;
        let answer = |reason: String| RegistryError::Answer { url: page.url.clone(), reason };
        let items: Vec<T> = items(&page.bytes, self.bounds.page)
            .map_err(|error| answer(format!("it is no page of a listing: {error}")))?;
        if let Some(item) = items.iter().find(|item| item.key().len() > MOST_NAME) {
            return Err(answer(format!("a name has {} characters", item.key().len())));
        }
        let total = page
            .total
            .as_deref()
            .map(|text| text.trim().parse::<u64>().map_err(|_| answer("`X-Total-Count` is no count of items".into())));
        let total = total.transpose()?;
        let count = items.len() as u64;
        let is_again = number <= self.furthest;
        let has_new = self.keep(items);
        // What is read again has rarely anything new; the bound on all pages ends that.
        self.stale = if has_new || is_again { 0 } else { self.stale + 1 };
        self.furthest = self.furthest.max(number);
        if number == 1 && count > 0 {
            // A server may give fewer at a time than it is asked for.
            self.size = count;
        }
        self.next = self.after(number, count, has_new, total, &page);
        if self.next.is_some() && self.stale >= MOST_STALE {
            let reason = format!("{MOST_STALE} pages in a row have nothing new");
            return Err(RegistryError::Endless { url: page.url, reason });
        }
        self.total = total.or(self.total);
        Ok(())
    }

    fn page(&mut self, number: u64) -> Result<Page, RegistryError> {
        let (page, size) = (number.to_string(), self.bounds.page.to_string());
        let mut query = vec![("page", page.as_str()), ("page_size", size.as_str())];
        query.extend(self.query.iter().map(|(name, value)| (*name, value.as_str())));
        if self.read >= self.bounds.pages {
            let url = format!("{}/{}", self.registry.host(), self.path);
            return Err(RegistryError::Endless { url, reason: format!("more than {} pages", self.read) });
        }
        self.read += 1;
        self.registry.page(&self.path, &query)
    }

    /// Keeps what did not come before, and says whether there was anything.
    fn keep(&mut self, items: Vec<T>) -> bool {
        let before = self.items.len();
        for item in items {
            if self.seen.insert(Digest::of(item.key().as_bytes())) {
                self.items.push_back(item);
            } else {
                self.repeated += 1;
            }
        }
        self.items.len() > before
    }

    /// The page behind page `number`, which has `count` items.
    fn after(&self, number: u64, count: u64, has_new: bool, total: Option<u64>, page: &Page) -> Option<u64> {
        let fewer = self.total.zip(total).map_or(0, |(before, now)| before.saturating_sub(now));
        if fewer > 0 && number > 1 {
            return Some(number.saturating_sub(fewer.div_ceil(self.size)).max(1));
        }
        // Where nothing says how much there is, a page that is not full, or was there before, is the last.
        let may_go_on = count >= self.size && has_new;
        let more = page.has_next || total.map_or(may_go_on, |total| number.saturating_mul(self.size) < total);
        more.then_some(number + 1)
    }
}

impl<T: Item + for<'d> serde::Deserialize<'d>> Iterator for Pages<T> {
    type Item = Result<T, RegistryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(Ok(item));
            }
            let number = self.next.take()?;
            if let Err(error) = self.turn(number) {
                // What came with the page before the error is gone through first.
                self.next = None;
                return Some(Err(error));
            }
        }
    }
}
