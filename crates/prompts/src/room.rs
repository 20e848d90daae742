//! Room for what takes far more memory than the bytes that whoever receives bodies counts: values of JSON, and texts
//! whose disguises are undone. All that are read at a time have together no more of either than one body may have, less
//! the small ones.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::json::MOST_VALUES;

/// How many numbers in lists of numbers take the room of one value.
const NUMBERS: usize = 32;

/// Values of bodies.
static VALUES: Room = Room::new(MOST_VALUES, 1_000);

/// Bytes of texts whose disguises are undone, which take up to twelve times of that.
static TEXTS: Room = Room::new(8 << 20, 256 << 10);

struct Room {
    /// Held by the one that waits next, so that a body that needs much is not passed by those that need little.
    queue: Mutex<()>,
    free: Mutex<usize>,
    freed: Condvar,
    most: usize,
    /// Whoever needs less takes none.
    few: usize,
}

/// Room that is taken until this is dropped.
pub(crate) struct Taken {
    room: &'static Room,
    amount: usize,
}

impl Room {
    const fn new(most: usize, few: usize) -> Room {
        Room { queue: Mutex::new(()), free: Mutex::new(most), freed: Condvar::new(), most, few }
    }

    fn take(&'static self, amount: usize) -> Option<Taken> {
        let amount = amount.min(self.most);
        if amount < self.few {
            return None;
        }
        let _next = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free < amount).unwrap_or_else(PoisonError::into_inner);
        *free -= amount;
        Some(Taken { room: self, amount })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.room.free.lock().unwrap_or_else(PoisonError::into_inner) += self.amount;
        self.room.freed.notify_all();
    }
}

impl std::fmt::Debug for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Taken").field(&self.amount).finish()
    }
}

/// Waits until there is room for so many values. Whoever has room must not ask again.
pub(crate) fn take(values: usize) -> Option<Taken> {
    VALUES.take(values)
}

/// Waits until there is room for a text of so many bytes without its disguises. Whoever has room must not ask again,
/// nor for room for values.
pub(crate) fn take_text(bytes: usize) -> Option<Taken> {
    TEXTS.take(bytes)
}

/// The values that a text has at most, if it is JSON; lists of numbers count little.
pub fn values_in(text: &[u8]) -> usize {
    let mut count = Count::default();
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                count.value(false);
                while let Some(byte) = bytes.next().filter(|byte| **byte != b'"') {
                    if *byte == b'\\' {
                        bytes.next();
                    }
                }
            }
            b'[' | b'{' => count.open(*byte == b'['),
            b']' | b'}' => count.close(),
            b',' => count.is_before_value = count.lists.last().is_some_and(|list| list.is_list),
            b':' => count.is_before_value = true,
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => count.value(matches!(byte, b'-' | b'0'..=b'9')),
        }
    }
    count.values + count.numbers / NUMBERS + count.lists.iter().map(|list| list.numbers).sum::<usize>()
}

#[derive(Default)]
struct Count {
    values: usize,
    /// Those in lists of numbers.
    numbers: usize,
    lists: Vec<List>,
    is_before_value: bool,
}

/// An array or an object that is open.
struct List {
    is_list: bool,
    /// Numbers, as long as nothing else is in the list.
    numbers: usize,
    has_others: bool,
}

impl Count {
    fn value(&mut self, is_number: bool) {
        if !std::mem::take(&mut self.is_before_value) {
            return;
        }
        self.values += 1;
        let Some(list) = self.lists.last_mut().filter(|list| list.is_list) else { return };
        if is_number && !list.has_others {
            self.values -= 1;
            list.numbers += 1;
        } else if !list.has_others {
            self.values += std::mem::take(&mut list.numbers);
            list.has_others = true;
        }
    }

    fn open(&mut self, is_list: bool) {
        self.value(false);
        self.lists.push(List { is_list, numbers: 0, has_others: false });
        self.is_before_value = is_list;
    }

    fn close(&mut self) {
        self.numbers += self.lists.pop().map_or(0, |list| list.numbers);
        self.is_before_value = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_as_they_are_kept() {
        for (text, count) in [
            (r#"{"a": [1, 2, 3], "b": {"c": "x,[\",{"}}"#, 3),
            (r#"[[], {}, null, "a", 1, {"a": 1}]"#, 7),
            (r#"[1, 2, "a", 3]"#, 4),
            ("[1, 2, 3", 3),
            ("[[1, 2], [3, -4.5e6]]", 2),
            (&format!("[{}1]", "1,".repeat(64)), 2),
            ("a text, with: marks", 1),
        ] {
            assert_eq!(values_in(text.as_bytes()), count, "{text}");
        }
    }
}
