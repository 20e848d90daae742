//! Progress bars on a terminal: of a scan, and of a sweep. Everything else that goes to standard error takes the bar
//! off the screen first, so that lines stay whole.

use std::io::IsTerminal;
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use layersift_fleet::{Counted, Progress};
use layersift_format::Cancellation;
use layersift_report::human;
use layersift_scan::Observer;

/// How often the bar of a sweep is drawn again.
const REDRAW: Duration = Duration::from_millis(200);

/// How often a sweep without a bar logs how far it is.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The screen that all bars are on.
static BARS: LazyLock<MultiProgress> =
    LazyLock::new(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)));

/// Runs `print` while no bar is on the screen.
pub(crate) fn without_bars<R>(print: impl FnOnce() -> R) -> R {
    BARS.suspend(print)
}

/// The progress of a scan: layers, bytes, rate and time left.
pub(crate) struct ScanProgress {
    bar: ProgressBar,
    layers: ProgressBar,
}

impl ScanProgress {
    /// Shows a bar, unless `quiet` is set or standard error is not a terminal.
    pub(crate) fn start(quiet: bool) -> ScanProgress {
        ScanProgress { bar: bar(is_shown(quiet)), layers: ProgressBar::hidden() }
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show_layers(&self) {
        let total = self.layers.length().unwrap_or(0);
        self.bar.set_prefix(format!("layer {}/{total}", (self.layers.position() + 1).min(total)));
    }
}

impl Observer for ScanProgress {
    fn planned(&self, layers: usize, bytes: Option<u64>) {
        self.layers.set_length(layers as u64);
        let template = match bytes {
            Some(total) if total > 0 => {
                self.bar.set_length(total);
                "{prefix}  {wide_bar}  {binary_bytes}/{binary_total_bytes}  {binary_bytes_per_sec}  {eta} left"
            }
            _ => "{prefix}  {spinner}  {binary_bytes}  {binary_bytes_per_sec}  {elapsed}",
        };
        set_template(&self.bar, template);
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

/// The progress of a sweep: images, layers, rate and time left. Where no bar is shown it is logged now and then.
pub(crate) struct SweepProgress {
    bar: ProgressBar,
    ended: Cancellation,
    showing: JoinHandle<()>,
}

impl SweepProgress {
    /// Shows what `progress` counts.
    pub(crate) fn start(progress: Arc<Progress>, quiet: bool) -> SweepProgress {
        let is_shown = is_shown(quiet);
        let bar = bar(is_shown);
        set_template(&bar, "{spinner} {msg}  {elapsed}");
        let ended = Cancellation::new();
        let showing = {
            let (bar, ended) = (bar.clone(), ended.clone());
            thread::spawn(move || if is_shown { draw(&bar, &progress, &ended) } else { log(&progress, &ended) })
        };
        SweepProgress { bar, ended, showing }
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        self.ended.cancel();
        // A thread that panicked has printed why.
        let _ = self.showing.join();
        self.bar.finish_and_clear();
    }
}

fn draw(bar: &ProgressBar, progress: &Progress, ended: &Cancellation) {
    while !ended.wait(REDRAW) {
        bar.set_message(line(&progress.counted(), bar.elapsed()));
        bar.tick();
    }
}

fn log(progress: &Progress, ended: &Cancellation) {
    let started = Instant::now();
    while !ended.wait(LOG_INTERVAL) {
        tracing::info!("{}", line(&progress.counted(), started.elapsed()));
    }
}

/// What is waited for.
pub(crate) struct WaitProgress(ProgressBar);

impl WaitProgress {
    /// Shows a line, unless `quiet` is set or standard error is not a terminal.
    pub(crate) fn start(quiet: bool) -> WaitProgress {
        let bar = bar(is_shown(quiet));
        set_template(&bar, "{msg}, after {elapsed}");
        bar.enable_steady_tick(REDRAW);
        WaitProgress(bar)
    }

    /// Says what is waited for now.
    pub(crate) fn show(&self, text: &str) {
        self.0.set_message(text.to_owned());
    }

    /// Removes the line.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

fn is_shown(quiet: bool) -> bool {
    !quiet && std::io::stderr().is_terminal()
}

fn bar(is_shown: bool) -> ProgressBar {
    if is_shown { BARS.add(ProgressBar::no_length()) } else { ProgressBar::hidden() }
}

fn set_template(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

/// One line: how far a sweep is, and how long it may still take.
fn line(counted: &Counted, elapsed: Duration) -> String {
    let Counted { images, images_done, layers_queued, layers_read, bytes_saved, .. } = counted;
    let left = counted.bytes_queued.saturating_sub(counted.bytes_done);
    let rate = counted.bytes_read as f64 / elapsed.as_secs_f64().max(0.001);
    let time = if rate > 0.0 { format!("  {} s left", (left as f64 / rate).ceil()) } else { String::new() };
    format!(
        "images {images_done}/{images}  layers {layers_read}/{layers_queued}  {} saved  {}/s{time}",
        human(*bytes_saved),
        human(rate as u64)
    )
}
