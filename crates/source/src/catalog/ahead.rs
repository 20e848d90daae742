//! Asking ahead: what an iterator takes next is requested already, as a registry is slow to answer.

use std::collections::VecDeque;
use std::iter::Fuse;
use std::thread::{self, JoinHandle};

/// The results of jobs, in their order. So many of the next jobs run meanwhile, each on a thread of its own.
pub(super) struct Ahead<I, T> {
    jobs: Fuse<I>,
    running: VecDeque<JoinHandle<T>>,
    most: usize,
}

impl<I, J, T> Ahead<I, T>
where
    I: Iterator<Item = J>,
    J: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    /// Runs `most` of `jobs` at a time.
    pub(super) fn new(jobs: I, most: usize) -> Ahead<I, T> {
        Ahead { jobs: jobs.fuse(), running: VecDeque::with_capacity(most), most }
    }
}

impl<I, J, T> Iterator for Ahead<I, T>
where
    I: Iterator<Item = J>,
    J: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    type Item = T;

    fn next(&mut self) -> Option<T> {
        while self.running.len() < self.most.max(1)
            && let Some(job) = self.jobs.next()
        {
            self.running.push_back(thread::spawn(job));
        }
        let next = self.running.pop_front()?;
        Some(next.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn results_come_in_order_while_the_next_jobs_run() {
        let (started, starts) = mpsc::channel();
        let job = |number: usize| {
            let started = started.clone();
            move || {
                started.send(number).unwrap();
                number
            }
        };
        let mut ahead = Ahead::new((0..10).map(job), 4);
        assert_eq!(ahead.next(), Some(0));
        // The first result starts four jobs, and no fifth.
        let mut first: Vec<usize> = starts.iter().take(4).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 1, 2, 3]);
        assert_eq!(ahead.collect::<Vec<_>>(), (1..10).collect::<Vec<_>>());
        drop(started);
        assert_eq!(starts.iter().count(), 6);
    }

    #[test]
    fn nothing_is_no_result() {
        assert_eq!(Ahead::new(std::iter::empty::<fn() -> u8>(), 4).next(), None);
    }
}
