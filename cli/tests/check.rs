//! `ssm check` on a few cases. That a backend which is wrong fails is tested beside the command.

mod common;

use common::ssm;

#[test]
fn the_cpu_passes() {
    let ran = ssm(["check", "--cases", "90", "--seed", "11"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.starts_with("seed 11\n") && ran.out.contains("backend cpu: 90 cases, 0 failed"), "{}", ran.out);
    for word in [
        "selective_scan        forward",
        "selective_scan        backward",
        "discretise            forward",
        "state_update          forward",
        "causal_conv1d         forward",
        "causal_conv1d         backward",
        "causal_conv1d_update  forward",
        "dA",
        "bf16",
    ] {
        assert!(ran.out.contains(word), "{word}: {}", ran.out);
    }
    assert_eq!(ran.out, ssm(["check", "--cases", "90", "--seed", "11"]).out, "a seed repeats");
}

#[test]
fn a_table_in_markdown() {
    let ran = ssm(["check", "--table", "--cases", "90", "--seed", "11"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.starts_with("seed 11\n\nbackend cpu: 90 cases, 0 failed\n\n| operator | "), "{}", ran.out);
    let rows: Vec<&str> = ran.out.lines().skip(6).collect();
    assert!(
        rows.len() > 20 && rows.iter().any(|row| row.starts_with("| selective_scan | backward | dA | ")),
        "{rows:?}"
    );
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 6, "{row}");
        assert!(cells[3..].iter().any(|cell| !cell.is_empty()), "{row}");
        for cell in cells[3..].iter().filter(|cell| !cell.is_empty()) {
            let [error, plain, share] = cell.split(" / ").collect::<Vec<_>>()[..] else { panic!("{row}") };
            let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{row}"));
            assert!(number(error) >= 0.0 && number(plain) >= 0.0, "{row}");
            assert!((0.0..=100.0).contains(&number(share.trim_end_matches(" %"))), "{row}");
        }
    }
}

#[cfg(feature = "emulator")]
#[test]
fn the_emulator_passes() {
    let ran = ssm(["check", "--backend", "emulator", "--backend", "cpu", "--cases", "4", "--seed", "2"]);
    assert_eq!((ran.status, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.contains("backend emulator: 4 cases, 0 failed"), "{}", ran.out);
}

#[test]
fn refusals() {
    for args in [["--cases", "0"], ["--cases", "many"], ["--seed", "-1"], ["--backend", "cuda"]] {
        let ran = ssm(["check"].into_iter().chain(args));
        assert_eq!((ran.status, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(ran.err.contains(args[1]), "{}", ran.err);
    }
    #[cfg(feature = "cuda")]
    {
        let ran = ssm(["check", "--device", "1"]);
        let expected = "ssm: --device is for --backend cuda only\n";
        assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (2, "", expected));
    }
}
