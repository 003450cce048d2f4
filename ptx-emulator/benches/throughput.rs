//! Lane instructions per second and core, with bounds checks alone and with all checks, and beside ptoxide.
//! `cargo bench -p ptx-emulator`: figures of one thread, CPU time, the median of several runs.

use ptx_emulator::{Checks, Device, Module};
use std::time::{Duration, Instant};

const SCAN: &str = include_str!("selective_scan.ptx");
const PRODUCT: &str = include_str!("matrix_product.ptx");
const REPETITIONS: usize = 5;

/// CPU time of this thread where the system tells, otherwise time.
fn now(start: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let spent = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
    spent.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

/// The median time of a run.
fn median(mut run: impl FnMut()) -> Duration {
    let clock = Instant::now();
    let mut times: Vec<Duration> = (0..REPETITIONS)
        .map(|_| {
            let start = now(clock);
            run();
            now(clock) - start
        })
        .collect();
    times.sort();
    times[REPETITIONS / 2]
}

fn say(name: &str, lanes: u64, time: Duration) {
    println!(
        "{name:44} {:8.1} ms {:8.3} G lane instructions/s",
        time.as_secs_f64() * 1e3,
        lanes as f64 / time.as_secs_f64() / 1e9
    );
}

fn values(len: usize, scale: f32) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 % 1013) as f32 / 1013.0 - 0.5) * scale).collect()
}

/// (batch 4, dim 512, seqlen 512), 16 states.
fn selective_scan() {
    let (batch, dim, seqlen, dstate) = (4, 512, 512, 16);
    let module = Module::from_ptx(SCAN).expect("the scan parses");
    let device = Device::new();
    let upload = |len, scale| device.upload(&values(len, scale)).expect("memory");
    let (x, dt) = (upload(batch * dim * seqlen, 2.0), upload(batch * dim * seqlen, 0.1));
    let a = device.upload(&vec![-1.0f32; dim * dstate]).expect("memory");
    let (b, c) = (upload(batch * seqlen * dstate, 2.0), upload(batch * seqlen * dstate, 2.0));
    let out = device.alloc::<f32>(batch * dim * seqlen).expect("memory");
    let settings = [
        ("bounds", Checks::BOUNDS, false),
        ("bounds, counters", Checks::BOUNDS, true),
        ("all checks", Checks::ALL, true),
    ];
    for (name, checks, counters) in settings {
        let run = || {
            module
                .launch("selective_scan")
                .grid([(dim / 128) as u32, batch as u32, 1])
                .block([128, 1, 1])
                .arg(x)
                .arg(dt)
                .arg(a)
                .arg(b)
                .arg(c)
                .arg(out)
                .arg(dim as i32)
                .arg(seqlen as i32)
                .checks(checks)
                .counters(counters)
                .threads(1)
                .run(&device)
                .expect("the scan runs")
        };
        let report = run();
        assert!(report.is_clean(), "{report}");
        let time = median(|| drop(run()));
        say(&format!("selective scan, {name}"), report.lane_instructions(), time);
    }
}

/// 192 x 192.
fn matrix_product() {
    let n = 192usize;
    let module = Module::from_ptx(PRODUCT).expect("the product parses");
    let device = Device::new();
    let (a, b) =
        (device.upload(&values(n * n, 2.0)).expect("memory"), device.upload(&values(n * n, 2.0)).expect("memory"));
    let c = device.alloc::<f32>(n * n).expect("memory");
    let blocks = (n / 16) as u32;
    let run = |checks| {
        let launch = module.launch("matrix_product").grid([blocks, blocks, 1]).block([16, 16, 1]);
        launch.arg(a).arg(b).arg(c).arg(n as i32).checks(checks).threads(1).run(&device).expect("the product runs")
    };
    let lanes = run(Checks::ALL).lane_instructions();
    for (name, checks) in [("bounds", Checks::BOUNDS), ("all checks", Checks::ALL)] {
        let time = median(|| drop(run(checks)));
        say(&format!("matrix product, {name}"), lanes, time);
    }
    let mut other = ptoxide::Context::new_with_module(PRODUCT).expect("ptoxide parses the product");
    let [x, y, z] = [(); 3].map(|()| other.alloc::<f32>(n * n));
    other.write(x, &values(n * n, 2.0));
    other.write(y, &values(n * n, 2.0));
    let arguments = [
        ptoxide::Argument::ptr(x),
        ptoxide::Argument::ptr(y),
        ptoxide::Argument::ptr(z),
        ptoxide::Argument::U32(n as u32),
    ];
    let time = median(|| {
        let launch = ptoxide::LaunchParams::func_id(0).grid2d(blocks, blocks).block2d(16, 16);
        other.run(launch, &arguments).expect("ptoxide runs the product");
    });
    say("matrix product, ptoxide", lanes, time);
    let mut theirs = vec![0f32; n * n];
    other.read(z, &mut theirs);
    // ptoxide rounds products before it adds them.
    let ours = device.read(c).expect("memory");
    assert!(ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-4), "both compute the same product");
}

fn main() {
    selective_scan();
    matrix_product();
}
