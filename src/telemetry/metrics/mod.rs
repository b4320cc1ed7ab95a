//! Metrics in the text format of Prometheus.
//!
//! Parts keep their own counters and write them onto a [`Page`] when somebody asks ([`Collect`]); nothing is
//! measured for the sake of metrics alone but distributions ([`Histogram`]). Every name stands in [`catalog`].

pub mod catalog;
mod histogram;
mod page;

pub use catalog::{Family, Kind};
pub use histogram::Histogram;
pub use page::Page;
use tokio::sync::mpsc;

/// A part with figures to show.
pub trait Collect: Send + Sync {
    /// Writes the figures of this moment.
    fn collect(&self, page: &mut Page);
}

/// Shows how many messages wait in a queue, as long as somebody else sends on it.
pub fn waiting<T: Send + 'static>(queue: &'static str, sender: &mpsc::Sender<T>) -> impl Collect + use<T> {
    let sender = sender.downgrade();
    move |page: &mut Page| {
        if let Some(sender) = sender.upgrade() {
            page.count(&catalog::QUEUE_WAITING, &[queue], (sender.max_capacity() - sender.capacity()) as u64);
        }
    }
}

impl<F: Fn(&mut Page) + Send + Sync> Collect for F {
    fn collect(&self, page: &mut Page) {
        self(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_in_a_queue_is_shown_as_long_as_somebody_sends() {
        let (sender, mut receiver) = mpsc::channel(4);
        let shown = waiting("requests", &sender);
        let line = |value: &str| format!("honeycast_queue_waiting{{queue=\"requests\"}} {value}\n");
        let page = || {
            let mut page = Page::new();
            shown.collect(&mut page);
            page.render()
        };
        sender.send(1).await.unwrap();
        sender.send(2).await.unwrap();
        assert!(page().contains(&line("2")), "{}", page());
        receiver.recv().await.unwrap();
        assert!(page().contains(&line("1")));
        drop(sender);
        assert!(!page().contains("queue_waiting"), "the gauge does not keep the queue open");
    }
}
