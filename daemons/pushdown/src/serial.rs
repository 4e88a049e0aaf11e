//! Transition states of aggregates over integers, in the forms that PostgreSQL's own partial aggregates serialise them.

use trough_core::moments::IntMoments;

/// The form of `int8_avg_serialize`: the count, then the sum.
pub fn sum_state(count: i64, sum: i128) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&count.to_be_bytes());
    let magnitude = sum.unsigned_abs();
    number(&mut out, sum < 0, [0, (magnitude >> 64) as u64, magnitude as u64]);
    out
}

/// The form of `numeric_poly_serialize`: as above, then the sum of squares. `big`: of `numeric_serialize`, with what that adds.
pub fn moments_state(moments: &IntMoments, big: bool) -> Vec<u8> {
    let mut state = sum_state(moments.count, moments.sum);
    let (high, low) = moments.squares;
    number(&mut state, false, [high, (low >> 64) as u64, low as u64]);
    if big {
        numeric_rest(&mut state, moments.count);
    }
    state
}

/// What `numeric_serialize` adds for integers: the greatest scale, how many have it, and how many are NaN or infinite.
fn numeric_rest(out: &mut Vec<u8>, count: i64) {
    out.extend_from_slice(&0i32.to_be_bytes());
    for n in [count, 0, 0, 0] {
        out.extend_from_slice(&n.to_be_bytes());
    }
}

/// A numeric variable as digits of base 10,000. The number's highest 64 bits come first.
fn number(out: &mut Vec<u8>, negative: bool, mut limbs: [u64; 3]) {
    const NEGATIVE: i32 = 0x4000;
    let mut digits: Vec<i16> = Vec::new();
    while limbs.iter().any(|limb| *limb > 0) {
        let mut rest = 0u128;
        for limb in &mut limbs {
            let part = rest << 64 | u128::from(*limb);
            *limb = (part / 10_000) as u64;
            rest = part % 10_000;
        }
        digits.push(rest as i16);
    }
    digits.reverse();
    let weight = digits.len().saturating_sub(1) as i32;
    for n in [digits.len() as i32, weight, if negative { NEGATIVE } else { 0 }, 0] {
        out.extend_from_slice(&n.to_be_bytes());
    }
    digits.iter().for_each(|d| out.extend_from_slice(&d.to_be_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digits of a number, and what comes after it.
    fn digits(bytes: &[u8]) -> (Vec<u16>, bool, &[u8]) {
        let word = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (count, end) = (word(0) as usize, 16 + 2 * word(0) as usize);
        assert_eq!((word(4), word(12)), ((count as i32 - 1).max(0), 0));
        let digits = bytes[16..end].chunks(2).map(|d| u16::from_be_bytes([d[0], d[1]])).collect();
        (digits, word(8) != 0, &bytes[end..])
    }

    #[test]
    fn numbers_in_digits_of_base_10_000() {
        let state = sum_state(3, -123_456_789);
        assert_eq!(state[..8], 3i64.to_be_bytes());
        assert_eq!(digits(&state[8..]), (vec![1, 2345, 6789], true, &[][..]));
        assert_eq!(digits(&sum_state(1, 0)[8..]), (vec![], false, &[][..]));
        let moments = IntMoments { count: 4, sum: 0, squares: (1, 0) };
        let state = moments_state(&moments, true);
        let (_, _, rest) = digits(&state[8..]);
        let (squares, _, rest) = digits(rest);
        // 2¹²⁸
        assert_eq!(squares, [340, 2823, 6692, 938, 4634, 6337, 4607, 4317, 6821, 1456]);
        assert_eq!(rest.len(), 36);
    }
}
