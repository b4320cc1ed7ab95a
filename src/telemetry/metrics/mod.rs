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

/// A part with figures to show.
pub trait Collect: Send + Sync {
    /// Writes the figures of this moment.
    fn collect(&self, page: &mut Page);
}

impl<F: Fn(&mut Page) + Send + Sync> Collect for F {
    fn collect(&self, page: &mut Page) {
        self(page);
    }
}
