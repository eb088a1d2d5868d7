//! The results, as a table for people and as JSON for programs.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::load::Round;

/// Returns the times of a piece of work, the shortest first.
pub fn times(rounds: usize, mut work: impl FnMut()) -> Vec<Duration> {
    let time = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed()
    };
    let mut times: Vec<Duration> = (0..rounds.max(1)).map(time).collect();
    times.sort();
    times
}

/// Returns the median time of a piece of work.
pub fn median(rounds: usize, work: impl FnMut()) -> Duration {
    let times = times(rounds, work);
    times[times.len() / 2]
}

/// Returns the same for work that makes the daemon scan its templates. Scans begin at least 250 ms apart, so the rounds
/// do too, like the commands of a person.
pub fn median_apart(rounds: usize, mut work: impl FnMut()) -> Duration {
    let mut round = || {
        std::thread::sleep(Duration::from_millis(300));
        times(1, &mut work)[0]
    };
    let mut times: Vec<Duration> = (0..rounds).map(|_| round()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn middle(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Returns the 50th, 99th and 99.9th percentile of the times of requests, in microseconds.
fn percentiles<'a>(rounds: impl Iterator<Item = &'a Round>) -> [f64; 3] {
    let mut times: Vec<u32> = rounds.flat_map(|round| &round.times).copied().collect();
    times.sort_unstable();
    let at = |share: f64| times.get((times.len().saturating_sub(1) as f64 * share).round() as usize);
    [0.5, 0.99, 0.999].map(|share| at(share).map_or(0.0, |nanoseconds| f64::from(*nanoseconds) / 1e3))
}

/// One row of the growth table.
pub struct Growth {
    pub size: usize,
    pub first_render: Duration,
    pub resolve: Duration,
    pub render: Duration,
    pub edit: Duration,
    pub create: Duration,
    pub delete: Duration,
    pub list: Duration,
    pub memory: u64,
}

/// One row of the account's growth table.
pub struct AccountGrowth {
    pub size: usize,
    /// The time that it took, and the longest resolve and the longest change during it.
    pub push: [Duration; 3],
    pub sync: [Duration; 3],
    pub acknowledged: Duration,
    pub crossed: Duration,
    pub start: Duration,
    pub office_peak: u64,
    pub laptop_peak: u64,
    pub server_peak: u64,
}

/// Collects and prints the results.
pub struct Report {
    entries: Vec<Value>,
}

impl Report {
    pub fn new(quick: bool) -> Self {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model =
            cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, m)| m);
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        println!("{model}, {cores} cores, Linux {}{}\n", kernel.trim(), if quick { ", quick" } else { "" });
        let machine = json!({"cpu": model, "cores": cores, "kernel": kernel.trim(), "quick": quick});
        Self { entries: vec![json!({"machine": machine})] }
    }

    fn line(&mut self, name: &str, text: &str, value: Value) {
        println!("{name:<72} {text}");
        let mut entry = json!({"what": name.trim()});
        if let (Some(entry), Value::Object(value)) = (entry.as_object_mut(), value) {
            entry.extend(value);
        }
        self.entries.push(entry);
    }

    pub fn fact(&mut self, name: &str, value: usize) {
        self.line(name, &value.to_string(), json!({"value": value}));
    }

    pub fn time(&mut self, name: &str, time: Duration) {
        self.line(name, &ms(time), json!({"ms": time.as_secs_f64() * 1e3}));
    }

    /// Reports the median, the 99th percentile and the longest of times in ascending order.
    pub fn spread(&mut self, name: &str, times: &[Duration]) {
        let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
        let (p50, p99, longest) = (at(0.5), at(0.99), at(1.0));
        let in_ms = |time: Duration| time.as_secs_f64() * 1e3;
        let value =
            json!({"p50_ms": in_ms(p50), "p99_ms": in_ms(p99), "max_ms": in_ms(longest), "rounds": times.len()});
        self.line(name, &format!("p50 {}, p99 {}, at most {}", ms(p50), ms(p99), ms(longest)), value);
    }

    pub fn time_us(&mut self, name: &str, time: Duration) {
        let us = time.as_secs_f64() * 1e6;
        self.line(name, &format!("{us:.2} µs"), json!({"us": us}));
    }

    pub fn size(&mut self, name: &str, bytes: u64) {
        self.line(name, &format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)), json!({"bytes": bytes}));
    }

    /// Reports the resident bytes of a process: all of them, and those that belong to no file.
    pub fn resident(&mut self, name: &str, (all, own): (u64, u64)) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let text = format!("{:.1} MiB of its own, {:.1} MiB of files", mib(own), mib(all - own));
        self.line(name, &text, json!({"bytes": all, "own_bytes": own}));
    }

    pub fn bytes(&mut self, name: &str, bytes: u64) {
        self.line(name, &format!("{:.1} KiB", bytes as f64 / 1024.0), json!({"bytes": bytes}));
    }

    pub fn share(&mut self, name: &str, share: f64) {
        self.line(name, &format!("{:.2} % of a core", share * 100.0), json!({"share": share}));
    }

    pub fn ratio(&mut self, name: &str, time: Duration, of: &str, reference: Duration) {
        let ratio = time.as_secs_f64() / reference.as_secs_f64();
        let value = json!({"ms": time.as_secs_f64() * 1e3, "ratio": ratio});
        self.line(name, &format!("{} ({ratio:.1} times {of})", ms(time)), value);
    }

    pub fn difference(&mut self, name: &str, time: Duration, bare: Duration) {
        let over = time.saturating_sub(bare);
        let value = json!({"ms": time.as_secs_f64() * 1e3, "over_bare_ms": over.as_secs_f64() * 1e3});
        self.line(name, &format!("{} ({} over a bare process)", ms(time), ms(over)), value);
    }

    /// Reports throughput, work and time of a request compared with the bare server. The first two are the median of
    /// the rounds, the last is over all requests.
    pub fn serving(&mut self, name: &str, rounds: &[(Round, Round)]) {
        let of = |pick: fn(&(Round, Round)) -> f64| middle(rounds.iter().map(pick).collect());
        let ratio = of(|(bare, ours)| ours.per_second / bare.per_second);
        let (bare, ours) = (of(|(bare, _)| bare.per_second), of(|(_, ours)| ours.per_second));
        let bare_cpu = of(|(bare, _)| bare.cpu_per_request.as_secs_f64() * 1e6);
        let ours_cpu = of(|(_, ours)| ours.cpu_per_request.as_secs_f64() * 1e6);
        let text = format!(
            "{ratio:.2} of bare hyper ({ours:.0}/s of {bare:.0}/s); work {ours_cpu:.1} µs of {bare_cpu:.1} µs: {:.2}",
            bare_cpu / ours_cpu
        );
        let bare_us = percentiles(rounds.iter().map(|(bare, _)| bare));
        let ours_us = percentiles(rounds.iter().map(|(_, ours)| ours));
        let value = json!({
            "ratio": ratio, "per_second": ours, "bare_per_second": bare,
            "cpu_us": ours_cpu, "bare_cpu_us": bare_cpu,
            "p50_p99_p999_us": ours_us, "bare_p50_p99_p999_us": bare_us,
        });
        self.line(name, &text, value);
        let side = |[p50, p99, p999]: [f64; 3]| format!("p50 {p50:.0}, p99 {p99:.0}, p99.9 {p999:.0} µs");
        println!("{:<72} {}; bare {}", "", side(ours_us), side(bare_us));
    }

    pub fn growth(&mut self, rows: Vec<Growth>) {
        println!(
            "\n| secrets | start to first render | resolve, work | render, work | edit to render | create | delete | list of 100 | memory |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for row in rows {
            println!(
                "| {} | {} | {:.1} µs | {:.1} µs | {} | {} | {} | {} | {:.1} MiB |",
                row.size,
                ms(row.first_render),
                row.resolve.as_secs_f64() * 1e6,
                row.render.as_secs_f64() * 1e6,
                ms(row.edit),
                ms(row.create),
                ms(row.delete),
                ms(row.list),
                row.memory as f64 / f64::from(1 << 20),
            );
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            self.entries.push(json!({
                "what": "growth", "secrets": row.size, "first_render_ms": ms(row.first_render),
                "resolve_cpu_us": ms(row.resolve) * 1e3, "render_cpu_us": ms(row.render) * 1e3, "edit_ms": ms(row.edit),
                "create_ms": ms(row.create), "delete_ms": ms(row.delete), "list_ms": ms(row.list), "resident_bytes": row.memory,
            }));
        }
    }

    pub fn account_growth(&mut self, rows: Vec<AccountGrowth>) {
        println!(
            "\n| secrets | first push | longest resolve, change meanwhile | first sync | longest resolve, change meanwhile | rotate | until rendered elsewhere | start | most memory: first machine, second, server |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for row in rows {
            let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
            println!(
                "| {} | {} | {}, {} | {} | {}, {} | {} | {} | {} | {}, {}, {} |",
                row.size,
                ms(row.push[0]),
                ms(row.push[1]),
                ms(row.push[2]),
                ms(row.sync[0]),
                ms(row.sync[1]),
                ms(row.sync[2]),
                ms(row.acknowledged),
                ms(row.crossed),
                ms(row.start),
                mib(row.office_peak),
                mib(row.laptop_peak),
                mib(row.server_peak),
            );
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            self.entries.push(json!({
                "what": "account growth", "secrets": row.size,
                "first_push_ms": row.push.map(ms), "first_sync_ms": row.sync.map(ms),
                "acknowledged_ms": ms(row.acknowledged), "crossed_ms": ms(row.crossed), "start_ms": ms(row.start),
                "first_peak_bytes": row.office_peak, "second_peak_bytes": row.laptop_peak,
                "server_peak_bytes": row.server_peak,
            }));
        }
        println!();
    }

    /// Writes the results to `target/bench.json`.
    pub fn finish(self) {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench.json");
        let text = serde_json::to_string_pretty(&self.entries).expect("JSON");
        std::fs::write(&path, text + "\n").expect("target/bench.json is written");
        println!("\ntarget/bench.json has all of this");
    }
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}
