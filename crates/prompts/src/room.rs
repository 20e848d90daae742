//! Room for bodies with many values: what is read of a value takes far more memory than its text, which is what whoever
//! receives bodies counts. All bodies that are read at a time have together no more values than one may have, less the
//! small ones.

use std::sync::{Condvar, Mutex, PoisonError};

use crate::json::MOST_VALUES;

/// Bodies with fewer values take no room.
const FEW: usize = 1_000;

/// How many numbers in lists of numbers take the room of one value.
const NUMBERS: usize = 32;

static ROOM: Room = Room { queue: Mutex::new(()), free: Mutex::new(MOST_VALUES), freed: Condvar::new() };

struct Room {
    /// Held by the one that waits next, so that a body with many values is not passed by those with few.
    queue: Mutex<()>,
    free: Mutex<usize>,
    freed: Condvar,
}

/// Room that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken(usize);

impl Drop for Taken {
    fn drop(&mut self) {
        *ROOM.free.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        ROOM.freed.notify_all();
    }
}

/// Waits until there is room for so many values. Whoever has room must not ask again.
pub(crate) fn take(values: usize) -> Option<Taken> {
    let values = values.min(MOST_VALUES);
    if values < FEW {
        return None;
    }
    let _next = ROOM.queue.lock().unwrap_or_else(PoisonError::into_inner);
    let free = ROOM.free.lock().unwrap_or_else(PoisonError::into_inner);
    let mut free = ROOM.freed.wait_while(free, |free| *free < values).unwrap_or_else(PoisonError::into_inner);
    *free -= values;
    Some(Taken(values))
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
