//! Bars with rate and time left, on a terminal; nothing anywhere else.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::style::clean;
use crate::units::plural;

/// Redraws a second, at most: enough to look alive, cheap beside hashing.
const REDRAWS: u8 = 10;

/// The bar of the phase under way, if there is one.
#[derive(Debug)]
pub(crate) struct Progress {
    enabled: bool,
    current: Option<(String, ProgressBar)>,
}

impl Progress {
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            current: None,
        }
    }

    /// Shows how far `phase` has come, in bytes; a `total` of 0 is unknown.
    pub(crate) fn show(&mut self, phase: &str, done: u64, total: u64, peers: u32) {
        if !self.enabled {
            return;
        }
        if self.current.as_ref().is_none_or(|(name, _)| name != phase) {
            self.end();
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
            bar.set_style(style(total > 0));
            bar.set_prefix(clean(phase));
            // What a resumed download held already is not part of its rate: it is put in, counted, and
            // the estimate starts anew.
            bar.set_position(done);
            bar.tick();
            bar.reset_eta();
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
            bar.enable_steady_tick(Duration::from_millis(250));
            self.current = Some((phase.to_owned(), bar));
        }
        let Some((_, bar)) = &self.current else {
            return;
        };
        if total > 0 && bar.length() != Some(total) {
            bar.set_style(style(true));
            bar.set_length(total);
        }
        if peers > 0 {
            bar.set_message(format!("  {}", plural(u64::from(peers), "peer")));
        } else {
            bar.set_message("");
        }
        bar.set_position(done);
    }

    /// Takes the bar away while `write` writes a line of its own.
    pub(crate) fn hide_while(&self, write: impl FnOnce()) {
        match &self.current {
            Some((_, bar)) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away for good.
    pub(crate) fn end(&mut self) {
        if let Some((_, bar)) = self.current.take() {
            bar.finish_and_clear();
        }
    }
}

fn style(known: bool) -> ProgressStyle {
    let template = if known {
        "{prefix:<9} [{wide_bar}] {percent:>3}%  {binary_bytes:>9} of {binary_total_bytes}  \
         {binary_bytes_per_sec}  {eta} left{msg}"
    } else {
        "{prefix:<9} {spinner}  {binary_bytes}  {binary_bytes_per_sec}{msg}"
    };
    ProgressStyle::with_template(template)
        .expect("the template is a constant, tried by a test")
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_held_before_is_not_part_of_the_rate() {
        let mut progress = Progress::new(true);
        progress.show("receiving", 1 << 40, 2 << 40, 1);
        let (_, bar) = progress.current.as_ref().expect("the bar was just made");
        assert!(bar.per_sec() < 1.0, "{}", bar.per_sec());
        progress.end();
    }

    #[test]
    fn a_phase_follows_another_and_notes_pass_between() {
        for enabled in [true, false] {
            let mut progress = Progress::new(enabled);
            progress.show("hashing", 0, 0, 0);
            progress.show("hashing", 5, 10, 0);
            progress.show("receiving", 10, 20, 2);
            assert_eq!(progress.current.is_some(), enabled);
            let mut written = false;
            progress.hide_while(|| written = true);
            progress.end();
            assert!(written && progress.current.is_none());
        }
    }
}
