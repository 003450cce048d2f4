use crate::{Alone, alloc, code, download, ok, upload};
use emulated_cuda::copy::*;
use emulated_cuda::edge::In;

#[test]
fn one_after_another() {
    let _alone = Alone::enter();
    let (one, two) = (upload(&[1, 2, 3, 4]), upload(&[0; 4]));
    ok!(cuMemcpyDtoD_v2(two + 4, one, 8));
    assert_eq!(download(two, 4), [0, 1, 2, 0]);
    ok!(cuMemcpyDtoDAsync_v2(two, one + 8, 8, 0));
    ok!(cuMemcpyPeer(two + 8, 0, one, 0, 4));
    ok!(cuMemcpy(two + 12, one + 4, 4));
    assert_eq!(download(two, 4), [3, 4, 1, 2]);
    let (mut words, from) = ([0u32; 4], [9u32; 4]);
    ok!(cuMemcpy(words.as_mut_ptr().expose_provenance() as u64, one, 16));
    assert_eq!(words, [1, 2, 3, 4]);
    ok!(cuMemcpyAsync(two, from.as_ptr().expose_provenance() as u64, 16, 0));
    ok!(cuMemcpyPeerAsync(one, 0, two, 0, 8, 0));
    assert_eq!(download(one, 4), [9, 9, 3, 4]);
}

#[test]
fn what_is_refused() {
    let _alone = Alone::enter();
    let (address, words) = (upload(&[1; 4]), [0u32; 8]);
    let host = words.as_ptr().expose_provenance();
    assert_eq!(code!(cuMemcpyHtoD_v2(address, host, 17)), 1);
    assert_eq!(code!(cuMemcpyHtoD_v2(address + 13, host, 4)), 1);
    assert_eq!(code!(cuMemcpyHtoD_v2(address, 0, 4)), 1);
    assert_eq!(code!(cuMemcpyDtoH_v2(host, 64, 4)), 1);
    assert_eq!(code!(cuMemcpyDtoD_v2(address, address - 1, 4)), 1);
    assert_eq!(code!(cuMemcpyHtoD_v2(64, host, 0)), 0);
    assert_eq!(code!(cuMemsetD32_v2(address + 2, 0, 1)), 1);
    assert_eq!(code!(cuMemsetD16_v2(address + 2, 0, 8)), 1);
    assert_eq!(code!(cuMemcpyHtoDAsync_v2(address, host, 4, 77)), 400);
}

#[test]
fn fills() {
    let _alone = Alone::enter();
    let address = alloc(16);
    ok!(cuMemsetD8_v2(address, 0x11, 16));
    ok!(cuMemsetD16_v2(address + 4, 0x2222, 2));
    ok!(cuMemsetD32_v2(address + 8, 0x3333_3333, 1));
    assert_eq!(download(address, 4), [0x1111_1111, 0x2222_2222, 0x3333_3333, 0x1111_1111]);
    ok!(cuMemsetD8Async(address + 1, 0x44, 2, 0));
    ok!(cuMemsetD16Async(address + 6, 0x5555, 1, 0));
    ok!(cuMemsetD2D8_v2(address, 8, 0x66, 1, 2));
    ok!(cuMemsetD2D32_v2(address + 12, 4, 7, 1, 1));
    assert_eq!(code!(cuMemsetD2D16_v2(address, 2, 0, 2, 2)), 1, "rows overlap");
    assert_eq!(download(address, 4), [0x1144_4466, 0x5555_2222, 0x3333_3366, 7]);
}

#[test]
fn rectangles() {
    let _alone = Alone::enter();
    // Words of CUDA_MEMCPY2D: source (x, y, kind, host, device, array, pitch), destination, width, height.
    let (from, mut to) = ([0u32, 1, 2, 10, 11, 12, 20, 21, 22], [0u32; 4]);
    let address = alloc(48);
    let host = from.as_ptr().expose_provenance();
    let up: [usize; 16] = [4, 1, 1, host, 0, 0, 12, 0, 0, 2, 0, address as usize, 0, 24, 8, 2];
    ok!(cuMemcpy2D_v2(In::from(up.as_ptr().cast::<Copy2D>())));
    let back = to.as_mut_ptr().expose_provenance();
    let down: [usize; 16] = [0, 0, 2, 0, address as usize, 0, 24, 0, 0, 1, back, 0, 0, 8, 8, 2];
    ok!(cuMemcpy2DAsync_v2(In::from(down.as_ptr().cast::<Copy2D>()), 0));
    assert_eq!(to, [11, 12, 21, 22]);
    let mut beyond = down;
    beyond[15] = 3;
    assert_eq!(code!(cuMemcpy2D_v2(In::from(beyond.as_ptr().cast::<Copy2D>()))), 1);
}
