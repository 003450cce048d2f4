//! Devices: what they are called and what they can do.

use crate::codes::{Code, Result};
use crate::edge::{Handle, In, Out, exports};
use crate::settings;
use crate::state::lock;
use std::ffi::c_char;

/// A block may have so much shared memory without asking.
pub(crate) const FREE_SHARED: usize = 48 << 10;
/// Threads of a multiprocessor.
pub(crate) const MOST_THREADS: usize = 2048;

/// What differs between the architectures that the emulation passes for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub multiprocessors: usize,
    /// Shared memory of a multiprocessor.
    pub shared: usize,
    /// The most that a block may ask for.
    pub shared_optin: usize,
    pub l2_bytes: usize,
    pub blocks: usize,
}

/// Those of the architecture that the settings name.
pub(crate) fn limits() -> Limits {
    let of = |multiprocessors, shared: usize, optin: usize, l2: usize, blocks| Limits {
        multiprocessors,
        shared: shared << 10,
        shared_optin: optin << 10,
        l2_bytes: l2 << 20,
        blocks,
    };
    match settings::get().capability {
        (major, _) if major < 8 => of(40, 64, 64, 4, 16),
        (8, 0) => of(108, 164, 163, 40, 32),
        (8, _) => of(84, 100, 99, 6, 24),
        (12, _) => of(170, 100, 99, 96, 24),
        _ => of(132, 228, 227, 50, 32),
    }
}

fn exists(device: i32) -> Result<usize> {
    lock().device(device)?;
    Ok(device as usize)
}

/// What the driver says of an attribute (`CUdevice_attribute`); 0 of those that mean an ability which is not emulated.
fn attribute(attribute: i32, device: usize) -> Result<i32> {
    let (limits, (major, minor)) = (limits(), settings::get().capability);
    Ok(match attribute {
        1..=3 => 1024,
        4 => 64,
        5 => i32::MAX,
        6 | 7 => 65_535,
        8 => FREE_SHARED as i32,
        9 => 65_536,
        10 => 32,
        11 => i32::MAX,
        12 | 82 => 65_536,
        13 => 1_500_000,
        14 => 512,
        15 | 31 | 41 | 78..=80 | 90 | 95 | 99 | 115 => 1,
        16 => limits.multiprocessors as i32,
        30 | 51 => 32,
        33 => device as i32 + 1,
        36 => 2_000_000,
        37 => 5120,
        38 => settings::get().l2.map_or(limits.l2_bytes as i32, |bytes| bytes as i32),
        39 => MOST_THREADS as i32,
        40 => 2,
        75 => major,
        76 => minor,
        81 => limits.shared as i32,
        97 => limits.shared_optin as i32,
        106 => limits.blocks as i32,
        111 if major >= 8 => 1024,
        85 => device as i32,
        87 => 2,
        0 | 163.. => return Err(Code::INVALID_VALUE),
        _ if attribute < 0 => return Err(Code::INVALID_VALUE),
        _ => 0,
    })
}

/// Sixteen bytes that no device has, and the ordinal.
fn uuid(device: usize) -> [u8; 16] {
    let mut uuid = *b"emulated-cuda-\0\0";
    uuid[15] = device as u8;
    uuid
}

exports! {
    /// The number of devices that the settings name.
    fn cuDeviceGetCount(count: Out<i32>) {
        count.put(settings::get().devices as i32)
    }

    /// The device of an ordinal, which is its ordinal.
    fn cuDeviceGet(device: Out<i32>, ordinal: i32) {
        exists(ordinal)?;
        device.put(ordinal)
    }

    /// A name that says that the device is none, unless the settings have another.
    fn cuDeviceGetName(name: Out<c_char>, room: i32, device: i32) {
        exists(device)?;
        let (major, minor) = settings::get().capability;
        let own = || format!("Emulated CUDA device (sm_{major}{minor})");
        name.put_text(&settings::get().name.clone().unwrap_or_else(own), usize::try_from(room).unwrap_or(0))
    }

    /// An identifier.
    fn cuDeviceGetUuid(uuid_out: Out<u8>, device: i32) {
        uuid_out.fill(&uuid(exists(device)?))
    }

    /// An identifier.
    fn cuDeviceGetUuid_v2(uuid_out: Out<u8>, device: i32) {
        uuid_out.fill(&uuid(exists(device)?))
    }

    /// The memory that the settings name.
    fn cuDeviceTotalMem_v2(bytes: Out<usize>, device: i32) {
        exists(device)?;
        bytes.put(settings::get().memory as usize)
    }

    /// An attribute of a device.
    fn cuDeviceGetAttribute(value: Out<i32>, which: i32, device: i32) {
        let found = attribute(which, exists(device)?)?;
        value.put(found)
    }

    /// The architecture, an older question.
    fn cuDeviceComputeCapability(major: Out<i32>, minor: Out<i32>, device: i32) {
        exists(device)?;
        let capability = settings::get().capability;
        major.put(capability.0)?;
        minor.put(capability.1)
    }

    /// A place on a bus that is not there.
    fn cuDeviceGetPCIBusId(id: Out<c_char>, room: i32, device: i32) {
        let device = exists(device)?;
        id.put_text(&format!("0000:{:02X}:00.0", device + 1), usize::try_from(room).unwrap_or(0))
    }

    /// The device of such a place.
    fn cuDeviceGetByPCIBusId(device: Out<i32>, id: In<c_char>) {
        let text = id.text()?;
        let bus = text.split(':').rev().nth(1).and_then(|bus| i32::from_str_radix(bus, 16).ok());
        let found = bus.map(|bus| bus - 1).ok_or(Code::INVALID_VALUE)?;
        exists(found)?;
        device.put(found)
    }

    /// No kernel reaches the memory of another device; copies do.
    fn cuDeviceCanAccessPeer(can: Out<i32>, device: i32, peer: i32) {
        exists(device)?;
        exists(peer)?;
        can.put(0)
    }

    /// As `cuDeviceCanAccessPeer`: nothing.
    fn cuDeviceGetP2PAttribute(value: Out<i32>, which: i32, device: i32, peer: i32) {
        exists(device)?;
        exists(peer)?;
        if !(1..=5).contains(&which) || device == peer {
            return Err(Code::INVALID_VALUE);
        }
        value.put(0)
    }

    /// Refused, as between devices without a way to each other.
    fn cuCtxEnablePeerAccess(_peer: Handle, _flags: u32) {
        lock().current()?;
        Err(Code::PEER_ACCESS_UNSUPPORTED)
    }
}
