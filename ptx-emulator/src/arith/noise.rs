//! The noise of adversarial mode: what a device may return where the PTX ISA allows an error.

/// The next state of the noise, after one executed instruction.
pub(crate) fn advance(state: u64) -> u64 {
    state.wrapping_add(0x9E37_79B9_7F4A_7C15)
}

/// The noise of a lane: uniform in [-1, 1), a function of the state and the lane alone, so that it does not depend on
/// which other lanes take part.
pub(crate) fn of_lane(state: u64, lane: usize) -> f64 {
    // SplitMix64's mixing, of a state of its own for every lane.
    let mut bits = state ^ (lane as u64 + 1).wrapping_mul(0xD1B5_4A32_D192_ED03);
    bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^= bits >> 31;
    (bits as i64 >> 11) as f64 / (1_u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_fills_its_interval_and_differs_by_lane_and_state() {
        let mut state = 7;
        let (mut sum, mut least, mut greatest) = (0.0, 1.0_f64, -1.0_f64);
        for _ in 0..1000 {
            for lane in 0..32 {
                let noise = of_lane(state, lane);
                assert!((-1.0..1.0).contains(&noise));
                (sum, least, greatest) = (sum + noise, least.min(noise), greatest.max(noise));
                assert_ne!(noise, of_lane(state, (lane + 1) % 32));
            }
            assert_ne!(of_lane(state, 0), of_lane(advance(state), 0));
            state = advance(state);
        }
        assert!(f64::abs(sum / 32_000.0) < 0.02 && least < -0.999 && greatest > 0.999);
    }
}
