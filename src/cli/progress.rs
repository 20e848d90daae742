//! Progress on a terminal: layers, bytes, rate and time left. Silent everywhere else.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use layersift_scan::Observer;

/// Draws on standard error.
pub struct Display {
    bar: ProgressBar,
    layers: ProgressBar,
}

impl Display {
    /// A display that draws only where standard error is a terminal and `quiet` is not set.
    pub fn new(quiet: bool) -> Display {
        let shown = !quiet && std::io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        Display { bar: ProgressBar::with_draw_target(None, target), layers: ProgressBar::hidden() }
    }

    /// Takes the display off the screen.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show_layers(&self) {
        let total = self.layers.length().unwrap_or(0);
        self.bar.set_prefix(format!("layer {}/{total}", (self.layers.position() + 1).min(total)));
    }
}

impl Observer for Display {
    fn planned(&self, layers: usize, bytes: Option<u64>) {
        self.layers.set_length(layers as u64);
        let template = match bytes {
            Some(total) if total > 0 => {
                self.bar.set_length(total);
                "{prefix}  {wide_bar}  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
            }
            _ => "{prefix}  {spinner}  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.show_layers();
    }

    fn read(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn layer_done(&self) {
        self.layers.inc(1);
        self.show_layers();
    }
}
