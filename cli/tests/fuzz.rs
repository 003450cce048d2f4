//! Damaged and hostile files are refused or run, and never panic, abort or hang.

mod common;

use common::{broadcast_case, folder, run, scan_case, ssm};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use safetensors::Dtype;
use std::path::Path;

/// Runs `bytes` in little memory; there is an output only if it ran.
fn survives(name: &str, options: &[&str], bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (input, output) = (folder.join("in.safetensors"), folder.join("out.safetensors"));
    let _ = std::fs::remove_file(&output);
    std::fs::write(&input, bytes).unwrap();
    let ran = run(&[options, &["--max-memory", "64"]].concat(), &input, &output);
    assert!(ran.status <= 2 && !ran.err.contains("panicked"), "{}", ran.err);
    assert_eq!(output.exists(), ran.status < 2, "{}", ran.err);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1 + usize::from(output.exists()), "a temporary is left");
}

/// Has `bytes` examined in little memory; there is JSON only if they were.
fn is_examined(name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let (input, json) = (folder.join("in.safetensors"), folder.join("out.json"));
    std::fs::write(&input, bytes).unwrap();
    for direction in [&[][..], &["--backward"]] {
        let _ = std::fs::remove_file(&json);
        let options = ["doctor", "--max-memory", "64", "--threads", "1"].iter().chain(direction).chain(&["--json"]);
        let options = options.map(std::ffi::OsString::from);
        let ran = ssm(options.chain([json.clone().into(), input.clone().into()]));
        assert!(ran.status <= 2 && !ran.err.contains("panicked"), "{}", ran.err);
        assert_eq!(json.exists(), ran.status < 2, "{}", ran.err);
    }
}

fn files() -> Vec<Vec<u8>> {
    let discretise = broadcast_case("zoh", Dtype::BF16).with_pattern("dA_bar", Dtype::F32, &[1], (1.0, 1.0));
    let scan = scan_case(Dtype::F32).with_pattern("dout", Dtype::F32, &[2, 4, 12], (-1.0, 1.0));
    vec![scan_case(Dtype::F16).bytes(), scan.bytes(), discretise.bytes()]
}

const OPTIONS: [&[&str]; 6] = [
    &[],
    &["--backend", "reference"],
    &["--backward"],
    &["--backend", "reference", "--backward"],
    &["--layout", "channel-last", "--states-every", "2"],
    &["--layout", "channel-last", "--backward", "--split", "3"],
];

const ATTENTION_OPTIONS: [&[&str]; 5] = [
    &[],
    &["--backend", "reference"],
    &["--backward", "--chunk-size", "1"],
    &["--backend", "reference", "--backward"],
    &["--layout", "channel-last"],
];

/// An extent that is small, or of a kind that overflows something.
fn extent() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..5,
        1 => select(vec![1 << 20, 1 << 31, 1 << 32, 1 << 39, 1 << 40, (1 << 40) + 1, 1 << 62, u64::MAX]),
    ]
}

/// The size of an element where a tensor is to be consistent.
fn dtype() -> impl Strategy<Value = (&'static str, u64)> {
    select(vec![("F32", 4), ("F32", 4), ("F32", 4), ("BF16", 2), ("F64", 8), ("I32", 4), ("U8", 1), ("F4", 1)])
}

/// A header of tensors that may contradict each other, and the bytes that it promises (or not).
fn hostile(op: &'static str, names: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let shape = prop::collection::vec(extent(), 0..5);
    let tensor = (dtype(), shape, 0u8..10, extent());
    prop::collection::vec(tensor, names.len()..=names.len()).prop_map(move |tensors| {
        let (mut header, mut end) = (format!(r#"{{"__metadata__":{{"op":"{op}","method":"zoh"}}"#), 0u64);
        for (name, ((dtype, size), shape, twist, odd)) in names.iter().zip(tensors) {
            let bytes = shape.iter().fold(size, |bytes, &extent| bytes.wrapping_mul(extent));
            let start = if twist == 0 { odd } else { end };
            end = if twist == 1 { odd } else { start.wrapping_add(bytes) };
            header += &format!(r#","{name}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{start},{end}]}}"#);
        }
        header += "}";
        let data = vec![0u8; if end < 1 << 16 { end as usize } else { 0 }];
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
    })
}

/// Dense f32 tensors one after the other, with their bytes if these are few.
fn dense(metadata: &str, tensors: &[(&str, Vec<u64>)]) -> Vec<u8> {
    let (mut header, mut end) = (format!(r#"{{"__metadata__":{{{metadata}}}"#), 0u64);
    for (name, shape) in tensors {
        let start = end;
        end = end.wrapping_add(shape.iter().fold(4, |bytes: u64, &extent| bytes.wrapping_mul(extent)));
        header += &format!(r#","{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{start},{end}]}}"#);
    }
    header += "}";
    let data = vec![0u8; if end < 1 << 24 { end as usize } else { 0 }];
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// Consistent scans with extents of all kinds, as far as they need few bytes.
fn consistent() -> impl Strategy<Value = Vec<u8>> {
    (extent(), extent(), extent(), extent(), extent()).prop_map(|(batch, dim, seqlen, dstate, ngroups)| {
        let sequence = vec![batch, dim, seqlen];
        let projection = vec![batch, ngroups, dstate, seqlen];
        let tensors = [
            ("A", vec![dim, dstate]),
            ("B", projection.clone()),
            ("C", projection),
            ("dout", sequence.clone()),
            ("dt", sequence.clone()),
            ("x", sequence),
        ];
        dense(r#""op":"selective_scan""#, &tensors)
    })
}

/// Consistent attentions with extents of all kinds, and gradients of out.
fn attentions() -> impl Strategy<Value = Vec<u8>> {
    (prop::array::uniform5(extent()), any::<bool>()).prop_map(|([batch, nheads, seqlen, dim, vdim], update)| {
        let (key, value, steps) =
            (vec![batch, nheads, seqlen, dim], vec![batch, nheads, seqlen, vdim], vec![batch, nheads, seqlen]);
        let mut tensors = vec![("k", key.clone()), ("log_decay", steps), ("q", key), ("v", value.clone())];
        if update {
            let features = dim.wrapping_mul(dim.wrapping_add(1)) / 2;
            tensors.push(("initial_norm", vec![batch, nheads, features]));
            tensors.push(("initial_state", vec![batch, nheads, features, vdim]));
            return dense(r#""op":"squared_attention_update""#, &tensors);
        }
        tensors.push(("dout", value));
        dense(r#""op":"squared_attention""#, &tensors)
    })
}

/// Consistent discretisations that broadcast, to nothing or to far too much.
fn broadcasts() -> impl Strategy<Value = Vec<u8>> {
    let extents = prop::array::uniform4(extent());
    (extents, prop::array::uniform4(0u8..16), any::<bool>()).prop_map(|(extents, stretched, right)| {
        let mut tensors = vec![];
        for (name, ones) in ["A", "B", "dA_bar", "dt"].into_iter().zip(stretched) {
            let shape = extents.iter().enumerate().map(|(i, &n)| if ones >> i & 1 == 1 || n > 1 << 30 { 1 } else { n });
            tensors.push((name, if right { shape.collect() } else { shape.take(3).collect::<Vec<u64>>() }));
        }
        dense(r#""op":"discretise","method":"bilinear""#, &tensors)
    })
}

/// Values of JSON where a tensor or the metadata should be.
const VALUES: [&str; 16] = [
    "null",
    "0",
    "[]",
    "{}",
    "\"F32\"",
    r#"{"op":"selective_scan"}"#,
    r#"{"op":1}"#,
    r#"{"op":null}"#,
    r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#,
    r#"{"dtype":"F32","shape":[],"data_offsets":[0,4]}"#,
    r#"{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}"#,
    r#"{"dtype":"F32","shape":[1e400],"data_offsets":[0,4]}"#,
    r#"{"dtype":"F32","shape":[1],"data_offsets":[4,0]}"#,
    r#"{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}"#,
    r#"{"dtype":"F32","shape":[1],"data_offsets":[0]}"#,
    r#"{"dtype":"F5","shape":[1],"data_offsets":[0,4],"more":{}}"#,
];

/// Headers of odd names and values, repeated names among them.
fn scribbled() -> impl Strategy<Value = Vec<u8>> {
    let names = select(vec!["x", "dt", "A", "__metadata__", "", "a\\nb", "\\ud800", "\\u0000"]);
    (prop::collection::vec((names, select(VALUES.to_vec())), 0..4), ".{0,3}").prop_map(|(entries, after)| {
        let entries: Vec<String> = entries.iter().map(|(name, value)| format!(r#""{name}":{value}"#)).collect();
        let text = format!("{{{}}}{}", entries.join(","), if after.len() > 2 { after } else { String::new() });
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &[0; 4]].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn truncated(file in select(files()), at: Index, options in select(OPTIONS.to_vec())) {
        folder("fuzz_truncated");
        survives("fuzz_truncated", options, &file[..at.index(file.len())]);
    }

    #[test]
    fn flipped(
        file in select(files()),
        flips in prop::collection::vec((any::<Index>(), prop_oneof![4 => b' '..=b'~', 1 => any::<u8>()]), 1..4),
        options in select(OPTIONS.to_vec()),
    ) {
        let mut file = file;
        let header = 8 + usize::from(file[0]) + 256 * usize::from(file[1]);
        flips.iter().for_each(|(at, byte)| file[at.index(header)] = *byte);
        folder("fuzz_flipped");
        survives("fuzz_flipped", options, &file);
    }

    #[test]
    fn digits_changed(file in select(files()), flips in prop::collection::vec((any::<Index>(), 0u8..10), 1..4)) {
        let mut file = file;
        let header = 8 + usize::from(file[0]) + 256 * usize::from(file[1]);
        let digits: Vec<usize> = (8..header).filter(|&i| file[i].is_ascii_digit()).collect();
        flips.iter().for_each(|(at, digit)| file[digits[at.index(digits.len())]] = b'0' + digit);
        folder("fuzz_digits");
        survives("fuzz_digits", &[], &file);
    }

    #[test]
    fn hostile_scans(file in hostile("selective_scan", &["A", "B", "C", "D", "dt", "x"]), options in select(OPTIONS.to_vec())) {
        folder("fuzz_scans");
        survives("fuzz_scans", options, &file);
    }

    #[test]
    fn hostile_discretisations(file in hostile("discretise", &["A", "B", "dA_bar", "dt"]), options in select(OPTIONS.to_vec())) {
        folder("fuzz_discretisations");
        survives("fuzz_discretisations", options, &file);
    }

    #[test]
    fn consistent_scans(file in consistent(), options in select(OPTIONS.to_vec())) {
        folder("fuzz_consistent");
        survives("fuzz_consistent", options, &file);
    }

    #[test]
    fn examined_scans(file in prop_oneof![consistent(), hostile("selective_scan", &["A", "B", "C", "D", "dout", "dt", "x"])]) {
        folder("fuzz_examined");
        is_examined("fuzz_examined", &file);
    }

    #[test]
    fn examined_bytes(file in select(files()), flips in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4)) {
        let mut file = file;
        // A header of several hundred bytes seldom survives: those after it are values.
        let header = 8 + usize::from(file[0]) + 256 * usize::from(file[1]);
        let values = file.len() - header;
        flips.iter().for_each(|(at, byte)| file[header + at.index(values)] = *byte);
        folder("fuzz_bytes");
        is_examined("fuzz_bytes", &file);
    }

    #[test]
    fn consistent_attentions(file in attentions(), options in select(ATTENTION_OPTIONS.to_vec())) {
        folder("fuzz_attentions");
        survives("fuzz_attentions", options, &file);
    }

    #[test]
    fn hostile_attentions(
        file in hostile("squared_attention", &["dout", "initial_norm", "initial_state", "k", "log_decay", "q", "v"]),
        options in select(ATTENTION_OPTIONS.to_vec()),
    ) {
        folder("fuzz_hostile_attentions");
        survives("fuzz_hostile_attentions", options, &file);
    }

    #[test]
    fn broadcast_discretisations(file in broadcasts(), options in select(OPTIONS.to_vec())) {
        folder("fuzz_broadcasts");
        survives("fuzz_broadcasts", options, &file);
    }

    #[test]
    fn scribbled_headers(file in scribbled()) {
        folder("fuzz_scribbled");
        survives("fuzz_scribbled", &["--op", "selective_scan"], &file);
    }
}
