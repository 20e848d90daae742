//! Pages: one listing of Harbor, read page by page while it may change.
//!
//! Pages are requested by number. A `Link` header only says whether there is another page, and must lead to the same
//! registry: the items of a page whose link does not are given, and the listing ends with an error. If it is missing,
//! because a proxy drops it, `X-Total-Count` says whether there is another page.
//!
//! A change on the pages that were read moves the items after it. A new item moves them to later pages: they are listed
//! again, and given once. A deleted item moves them to earlier pages: then the total is smaller than before, and as
//! many pages are read again as the deleted items had.

use std::collections::{HashSet, VecDeque};

use super::login::Login;
use super::wire::{Item, items};
use crate::registry::{EndlessListing, Page, ProtocolError, RegistryError};
use layersift_model::Digest;

/// Pages in a row without anything new after which a listing is given up.
const MAX_STALE: usize = 3;

/// The most bytes of a name. Harbor has 255.
const MAX_NAME: usize = 1_024;

/// The items of one listing. Nothing follows an error.
pub(super) struct Pages<T> {
    login: Login,
    asking: Asking,
    path: String,
    query: Vec<(&'static str, String)>,
    bounds: Bounds,
    items: VecDeque<T>,
    /// The page to read next, from 1; `None` at the end.
    next: Option<u64>,
    /// Why there may be a next page that is not requested: the last item.
    failure: Option<RegistryError>,
    /// Pages that were read, and pages in a row that had nothing new.
    read: usize,
    stale: usize,
    /// The total on the previous page, and the smallest of all.
    total: Option<u64>,
    least: Option<u64>,
    /// The furthest page that was read.
    furthest: u64,
    /// Items per page.
    size: u64,
    /// Digests of the names of the items so far: a name may be long.
    seen: HashSet<Digest>,
    /// How many items were listed again.
    pub(super) repeated: u64,
    /// How many items came, and how many went, while the listing was read, as far as its totals say.
    pub(super) grown: u64,
    pub(super) shrunk: u64,
}

/// How pages are requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asking {
    /// A stranger is refused.
    Once,
    /// A stranger is given less, so that each page is confirmed.
    Confirmed,
}

/// Limits of a listing.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Items to request per page.
    pub(super) page: usize,
    /// The most pages.
    pub(super) pages: usize,
}

impl<T: Item + for<'d> serde::Deserialize<'d>> Pages<T> {
    /// The listing at `path`, which is escaped already, with the parameters `query`.
    pub(super) fn new(login: &Login, path: String, query: Vec<(&'static str, String)>, bounds: Bounds) -> Self {
        Pages {
            login: login.clone(),
            asking: Asking::Once,
            path,
            query,
            bounds,
            items: VecDeque::new(),
            next: Some(1),
            failure: None,
            read: 0,
            stale: 0,
            total: None,
            least: None,
            furthest: 0,
            size: bounds.page as u64,
            seen: HashSet::new(),
            repeated: 0,
            grown: 0,
            shrunk: 0,
        }
    }

    /// The same listing, with its pages requested as `asking` says.
    pub(super) fn asking(self, asking: Asking) -> Self {
        Pages { asking, ..self }
    }

    /// How many different items were listed so far.
    pub(super) fn listed(&self) -> u64 {
        self.seen.len() as u64
    }

    /// The error of a listing that should have `total` items.
    pub(super) fn short_of(&self, total: u64) -> RegistryError {
        let url = format!("{}/{}", self.login.host(), self.path);
        RegistryError::Protocol { url, error: ProtocolError::Short { listed: self.listed(), total } }
    }

    /// Reads the first page now. Its error comes when the items are taken.
    pub(super) fn read_ahead(&mut self) {
        if let Some(number) = self.next.take()
            && let Err(error) = self.read_page(number)
        {
            self.next = None;
            self.failure = Some(error);
        }
    }

    /// Reads a page and determines the next one.
    fn read_page(&mut self, number: u64) -> Result<(), RegistryError> {
        let page = self.page(number)?;
        let invalid = |error| RegistryError::Protocol { url: page.url.clone(), error };
        let items: Vec<T> =
            items(&page.bytes, self.bounds.page).map_err(|error| self.login.invalid_page(&page, error.into()))?;
        if let Some(item) = items.iter().find(|item| item.key().len() > MAX_NAME) {
            return Err(invalid(ProtocolError::NameTooLong(item.key().len())));
        }
        let total = page.total.as_deref().map(|text| text.trim().parse::<u64>());
        let total = total.transpose().map_err(|_| invalid(ProtocolError::TotalCount))?;
        self.note_change(total)?;
        let count = items.len() as u64;
        let is_again = number <= self.furthest;
        let has_new = self.keep(items);
        // A page that is read again rarely has anything new; the limit of pages bounds that.
        self.stale = if has_new || is_again { 0 } else { self.stale + 1 };
        self.furthest = self.furthest.max(number);
        if number == 1 && count > 0 {
            // A server may send fewer items per page than requested.
            self.size = count;
        }
        self.next = match page.has_next {
            Ok(has_next) => self.after(number, count, has_new, total, has_next),
            Err(error) => {
                self.failure = Some(error);
                None
            }
        };
        if self.next.is_some() && self.stale >= MAX_STALE {
            let reason = EndlessListing::NothingNew(MAX_STALE);
            return Err(RegistryError::Endless { url: page.url, reason });
        }
        self.total = total.or(self.total);
        if self.next.is_none() && self.failure.is_none() {
            self.failure = self.shortfall().map(invalid);
        }
        Ok(())
    }

    /// Notes what came and went since the previous page. A listing also shrinks for somebody who is not logged in any
    /// more.
    fn note_change(&mut self, total: Option<u64>) -> Result<(), RegistryError> {
        self.least = [self.least, total].into_iter().flatten().min();
        let Some((before, now)) = self.total.zip(total) else { return Ok(()) };
        self.grown += now.saturating_sub(before);
        self.shrunk += before.saturating_sub(now);
        if now < before {
            self.login.check()?;
        }
        Ok(())
    }

    /// What is wrong with a listing that has ended, if it has fewer items than it says: a cache, or a proxy that drops
    /// the query, may send the same page for several. Items that came while it was read may be missing.
    fn shortfall(&self) -> Option<ProtocolError> {
        let (listed, total) = (self.listed(), self.least?);
        (listed < total).then_some(ProtocolError::Short { listed, total })
    }

    fn page(&mut self, number: u64) -> Result<Page, RegistryError> {
        let (page, size) = (number.to_string(), self.bounds.page.to_string());
        let mut query = vec![("page", page.as_str()), ("page_size", size.as_str())];
        query.extend(self.query.iter().map(|(name, value)| (*name, value.as_str())));
        if self.read >= self.bounds.pages {
            let url = format!("{}/{}", self.login.host(), self.path);
            return Err(RegistryError::Endless { url, reason: EndlessListing::Pages(self.read) });
        }
        self.read += 1;
        match self.asking {
            Asking::Once => self.login.page(&self.path, &query),
            Asking::Confirmed => self.login.confirmed_page(&self.path, &query),
        }
    }

    /// Keeps the items that are new, and returns whether there were any.
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

    /// The page to read after page `number`, which has `count` items.
    fn after(&self, number: u64, count: u64, has_new: bool, total: Option<u64>, has_next: bool) -> Option<u64> {
        let fewer = self.total.zip(total).map_or(0, |(before, now)| before.saturating_sub(now));
        if fewer > 0 && number > 1 {
            return Some(number.saturating_sub(fewer.div_ceil(self.size)).max(1));
        }
        // Without a total, a page that is not full, or has nothing new, is the last.
        let may_go_on = count >= self.size && has_new;
        let more = has_next || total.map_or(may_go_on, |total| number.saturating_mul(self.size) < total);
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
            let Some(number) = self.next.take() else { return self.failure.take().map(Err) };
            if let Err(error) = self.read_page(number) {
                self.next = None;
                return Some(Err(error));
            }
        }
    }
}
