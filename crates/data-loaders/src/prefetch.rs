//! Items that another thread makes ahead of their use; a bounded channel limits how many wait.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// Number of finished items that may wait, in addition to the one in progress.
const AHEAD: usize = 2;

/// An iterator over the items of another iterator, which runs in a thread of its own.
#[derive(Debug)]
pub struct Prefetch<T> {
    /// `None` while it is being dropped.
    items: Option<Receiver<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Starts making `items`, in order.
    ///
    /// # Errors
    /// If the operating system cannot create a thread.
    pub fn start(items: impl Iterator<Item = T> + Send + 'static) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().name("prefetch".to_owned()).spawn(move || {
            for item in items {
                if sender.send(item).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { items: Some(receiver), thread: Some(thread) })
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.items.as_ref()?.recv().ok()
    }
}

impl<T> Drop for Prefetch<T> {
    /// Waits for the item in progress, so that nothing is read any more afterwards.
    fn drop(&mut self) {
        drop(self.items.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn items_come_in_order_and_few_are_made_ahead() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let items = (0..100).inspect(move |_| _ = count.fetch_add(1, Ordering::SeqCst));
        let mut prefetch = Prefetch::start(items).unwrap();
        assert_eq!((prefetch.next(), prefetch.next()), (Some(0), Some(1)));
        std::thread::sleep(Duration::from_millis(50));
        let ahead = made.load(Ordering::SeqCst) - 2;
        assert!((1..=AHEAD + 1).contains(&ahead), "{ahead}");
        assert_eq!(prefetch.by_ref().collect::<Vec<_>>(), (2..100).collect::<Vec<_>>());
        assert_eq!(prefetch.next(), None);
    }

    #[test]
    fn nothing_is_made_after_it_is_dropped() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        drop(
            Prefetch::start((0..).inspect(move |_: &u64| _ = count.fetch_add(1, Ordering::SeqCst))).unwrap(),
        );
        let before = made.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(made.load(Ordering::SeqCst), before);
    }
}
