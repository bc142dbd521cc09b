//! How far a download is, on a terminal and in words.

use std::cell::Cell;

use indicatif::{ProgressBar, ProgressStyle};

use super::super::{HubId, News, size};

pub(super) struct Progress<'a> {
    hears: &'a dyn Fn(News<'_>),
    /// Drawn where standard error is a terminal.
    bar: ProgressBar,
    total: Cell<u64>,
    done: Cell<u64>,
    /// Thousandths that were told of.
    told: Cell<u64>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(id: &HubId, hears: &'a dyn Fn(News<'_>)) -> Self {
        let bar = ProgressBar::no_length();
        let line =
            "{msg} {bar:24} {percent:>3} % of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
        // A template that is wrong leaves the style that there is.
        if let Ok(style) = ProgressStyle::with_template(line) {
            bar.set_style(style);
        }
        bar.set_message(id.to_string());
        let cell = Cell::default;
        Self { hears, bar, total: cell(), done: cell(), told: Cell::new(u64::MAX) }
    }

    pub(super) fn tell(&self, news: News<'_>) {
        self.bar.suspend(|| (self.hears)(news));
    }

    /// `total` bytes are to come, those that are there included.
    pub(super) fn begin(&self, total: u64) {
        self.done.set(0);
        self.total.set(total);
        self.bar.set_length(total);
        self.bar.reset_eta();
        self.moved();
    }

    pub(super) fn add(&self, bytes: u64) {
        self.done.set(self.done.get() + bytes);
        self.moved();
    }

    /// What had come is to come again.
    pub(super) fn take_back(&self, bytes: u64) {
        self.done.set(self.done.get().saturating_sub(bytes));
        self.moved();
    }

    fn moved(&self) {
        let (done, total) = (self.done.get(), self.total.get());
        self.bar.set_position(done);
        // Before `begin` it is an index of a few kilobytes.
        let Some(thousandths) = done.saturating_mul(1000).checked_div(total) else { return };
        let thousandths = thousandths.min(1000);
        let before = self.told.replace(thousandths);
        if before == thousandths {
            return;
        }
        let text = format!("downloading {}.{} % of {}", thousandths / 10, thousandths % 10, size(total));
        (self.hears)(News::Progress(&text));
        if self.bar.is_hidden() && before / 100 != thousandths / 100 {
            (self.hears)(News::Tenth(&text));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
