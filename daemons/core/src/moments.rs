//! Sums and moments of numbers, as aggregates carry them from segments to workers to PostgreSQL: computed step by step as
//! PostgreSQL's own aggregates do, so that what it makes of them is what it would have computed itself.
//!
//! A state travels as a byte string; that of an overflow, which PostgreSQL reports, is empty.

use thiserror::Error;

/// A result would be infinite although nothing that went into it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("value out of range: overflow")]
pub struct Overflow;

/// A state that can travel.
pub trait State: Copy + Default {
    /// As bytes; never empty.
    fn to_bytes(&self) -> Vec<u8>;

    /// From [`State::to_bytes`]; none if the bytes are something else.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;

    /// Adds another part of the same group.
    ///
    /// # Errors
    /// [`Overflow`]
    fn merge(&mut self, other: &Self) -> Result<(), Overflow>;
}

fn join<const N: usize>(numbers: [f64; N]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn split<const N: usize>(bytes: &[u8]) -> Option<[f64; N]> {
    let (parts, []) = bytes.as_chunks::<8>() else { return None };
    let parts: &[[u8; 8]; N] = parts.try_into().ok()?;
    Some(parts.map(f64::from_be_bytes))
}

/// Whether a sum overflowed.
fn checked(sum: f64, parts: [f64; 2]) -> Result<f64, Overflow> {
    if sum.is_infinite() && parts.iter().all(|p| !p.is_infinite()) { Err(Overflow) } else { Ok(sum) }
}

/// The sum of reals (`float8pl`, `float4pl`); none of no reals.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RealSum(pub Option<f64>);

impl RealSum {
    /// Adds a number; `single`: with the precision of PostgreSQL's `real`.
    ///
    /// # Errors
    /// [`Overflow`]
    pub fn add(&mut self, number: f64, single: bool) -> Result<(), Overflow> {
        let sum = match self.0 {
            None => number,
            Some(sum) if single => f64::from(sum as f32 + number as f32),
            Some(sum) => sum + number,
        };
        self.0 = Some(checked(sum, [self.0.unwrap_or(0.0), number])?);
        Ok(())
    }
}

/// Count, sum, and sum of the squared differences from the mean (`float8_accum`, by Youngs and Cramer).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RealMoments([f64; 3]);

impl RealMoments {
    /// Adds a number.
    ///
    /// # Errors
    /// [`Overflow`]
    pub fn add(&mut self, x: f64) -> Result<(), Overflow> {
        let [before, sum_before, mut spread] = self.0;
        let (n, sum) = (before + 1.0, sum_before + x);
        if before > 0.0 {
            let difference = x * n - sum;
            spread += difference * difference / (n * before);
            if sum.is_infinite() || spread.is_infinite() {
                if !sum_before.is_infinite() && !x.is_infinite() {
                    return Err(Overflow);
                }
                spread = f64::NAN;
            }
        } else if !x.is_finite() {
            spread = f64::NAN;
        }
        self.0 = [n, sum, spread];
        Ok(())
    }

    /// Count, sum and spread.
    pub fn parts(&self) -> [f64; 3] {
        self.0
    }
}

/// The spread of two parts together, or what two parts vary together.
fn combined(a: f64, b: f64, n: [f64; 2], difference: [f64; 2]) -> Result<f64, Overflow> {
    checked(a + b + n[0] * n[1] * difference[0] * difference[1] / (n[0] + n[1]), [a, b])
}

impl State for RealMoments {
    fn to_bytes(&self) -> Vec<u8> {
        join(self.0)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        split(bytes).map(Self)
    }

    fn merge(&mut self, other: &Self) -> Result<(), Overflow> {
        let ([n1, sum1, spread1], [n2, sum2, spread2]) = (self.0, other.0);
        if n1 == 0.0 || n2 == 0.0 {
            self.0 = if n1 == 0.0 { other.0 } else { self.0 };
            return Ok(());
        }
        let sum = checked(sum1 + sum2, [sum1, sum2])?;
        let difference = sum1 / n1 - sum2 / n2;
        self.0 = [n1 + n2, sum, combined(spread1, spread2, [n1, n2], [difference; 2])?];
        Ok(())
    }
}

/// Count, then sum and spread of x, of y, and what they vary together (`float8_regr_accum`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairMoments([f64; 6]);

impl PairMoments {
    /// Adds a pair.
    ///
    /// # Errors
    /// [`Overflow`]
    pub fn add(&mut self, x: f64, y: f64) -> Result<(), Overflow> {
        let [before, sum_x0, mut xx, sum_y0, mut yy, mut xy] = self.0;
        let (n, sum_x, sum_y) = (before + 1.0, sum_x0 + x, sum_y0 + y);
        if before > 0.0 {
            let (dx, dy) = (x * n - sum_x, y * n - sum_y);
            let scale = 1.0 / (n * before);
            xx += dx * dx * scale;
            yy += dy * dy * scale;
            xy += dx * dy * scale;
            let finite_x = !sum_x0.is_infinite() && !x.is_infinite();
            let finite_y = !sum_y0.is_infinite() && !y.is_infinite();
            if (sum_x.is_infinite() || xx.is_infinite()) && finite_x
                || (sum_y.is_infinite() || yy.is_infinite()) && finite_y
                || xy.is_infinite() && finite_x && finite_y
            {
                return Err(Overflow);
            }
            for spread in [&mut xx, &mut yy, &mut xy] {
                if spread.is_infinite() {
                    *spread = f64::NAN;
                }
            }
        } else {
            if !x.is_finite() {
                (xx, xy) = (f64::NAN, f64::NAN);
            }
            if !y.is_finite() {
                (yy, xy) = (f64::NAN, f64::NAN);
            }
        }
        self.0 = [n, sum_x, xx, sum_y, yy, xy];
        Ok(())
    }

    /// Count, sum and spread of x, of y, and what they vary together.
    pub fn parts(&self) -> [f64; 6] {
        self.0
    }
}

impl State for PairMoments {
    fn to_bytes(&self) -> Vec<u8> {
        join(self.0)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        split(bytes).map(Self)
    }

    fn merge(&mut self, other: &Self) -> Result<(), Overflow> {
        let ([n1, x1, xx1, y1, yy1, xy1], [n2, x2, xx2, y2, yy2, xy2]) = (self.0, other.0);
        if n1 == 0.0 || n2 == 0.0 {
            self.0 = if n1 == 0.0 { other.0 } else { self.0 };
            return Ok(());
        }
        let (dx, dy) = (x1 / n1 - x2 / n2, y1 / n1 - y2 / n2);
        let n = [n1, n2];
        self.0 = [
            n1 + n2,
            checked(x1 + x2, [x1, x2])?,
            combined(xx1, xx2, n, [dx, dx])?,
            checked(y1 + y2, [y1, y2])?,
            combined(yy1, yy2, n, [dy, dy])?,
            combined(xy1, xy2, n, [dx, dy])?,
        ];
        Ok(())
    }
}

/// Count, sum and sum of squares of integers of 64 bits, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IntMoments {
    /// How many.
    pub count: i64,
    /// Their sum.
    pub sum: i128,
    /// The sum of their squares: a number of 192 bits, its highest 64 apart.
    pub squares: (u64, u128),
}

impl IntMoments {
    /// Adds a number.
    pub fn add(&mut self, number: i64) {
        self.count += 1;
        self.sum += i128::from(number);
        let (low, carried) = self.squares.1.overflowing_add(u128::from(number.unsigned_abs()).pow(2));
        self.squares = (self.squares.0 + u64::from(carried), low);
    }
}

impl State for IntMoments {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(&self.sum.to_be_bytes());
        out.extend_from_slice(&self.squares.0.to_be_bytes());
        out.extend_from_slice(&self.squares.1.to_be_bytes());
        out
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let (high, rest) = rest.split_first_chunk()?;
        let low = rest.try_into().ok()?;
        Some(Self {
            count: i64::from_be_bytes(*count),
            sum: i128::from_be_bytes(*sum),
            squares: (u64::from_be_bytes(*high), u128::from_be_bytes(low)),
        })
    }

    fn merge(&mut self, other: &Self) -> Result<(), Overflow> {
        // No numbers make these overflow; bytes that are no state's do.
        let count = self.count.checked_add(other.count).ok_or(Overflow)?;
        let sum = self.sum.checked_add(other.sum).ok_or(Overflow)?;
        let (low, carried) = self.squares.1.overflowing_add(other.squares.1);
        let high = self.squares.0.checked_add(other.squares.0).and_then(|high| high.checked_add(carried.into()));
        *self = Self { count, sum, squares: (high.ok_or(Overflow)?, low) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(numbers: &[i64]) -> IntMoments {
        let mut state = IntMoments::default();
        numbers.iter().for_each(|n| state.add(*n));
        state
    }

    #[test]
    fn integers_beyond_128_bits() {
        let mut state = ints(&[i64::MIN; 4]);
        assert_eq!((state.count, state.sum), (4, 4 * i128::from(i64::MIN)));
        // Four times 2¹²⁶.
        assert_eq!(state.squares, (1, 0));
        state.merge(&ints(&[i64::MIN, 3])).expect("integers do not overflow");
        assert_eq!(state.squares, (1, (1 << 126) + 9));
        assert_eq!(IntMoments::from_bytes(&state.to_bytes()), Some(state));
        assert_eq!(IntMoments::from_bytes(b""), None);
    }

    #[test]
    fn bytes_that_are_no_state_of_numbers_overflow() {
        let most = IntMoments { count: i64::MAX, sum: i128::MAX, squares: (u64::MAX, u128::MAX) };
        for other in [
            IntMoments { count: 1, ..IntMoments::default() },
            IntMoments { sum: 1, ..IntMoments::default() },
            IntMoments { squares: (0, 1), ..IntMoments::default() },
            IntMoments { squares: (1, 0), ..IntMoments::default() },
        ] {
            let mut state = most;
            assert_eq!(state.merge(&other), Err(Overflow));
            assert_eq!(state, most);
        }
    }

    #[test]
    fn reals_in_parts() {
        let numbers: [f64; 5] = [1.0, 2.5, -3.0, 1e10, 7.0];
        let mut whole = RealMoments::default();
        numbers.iter().for_each(|n| whole.add(*n).expect("no overflow"));
        let mut parts = RealMoments::default();
        for half in numbers.chunks(2) {
            let mut part = RealMoments::default();
            half.iter().for_each(|n| part.add(*n).expect("no overflow"));
            parts.merge(&RealMoments::from_bytes(&part.to_bytes()).expect("its own bytes")).expect("no overflow");
        }
        for (a, b) in whole.parts().iter().zip(parts.parts()) {
            assert!((a - b).abs() <= a.abs() * 1e-12, "{a} and {b}");
        }
    }

    #[test]
    fn overflow_and_infinity() {
        let mut sum = RealSum(Some(f64::MAX));
        assert_eq!(sum.add(f64::MAX, false), Err(Overflow));
        assert_eq!(sum.add(f64::INFINITY, false), Ok(()));
        assert_eq!(sum.add(1.0, false), Ok(()));
        assert_eq!(sum.0, Some(f64::INFINITY));
        let mut single = RealSum::default();
        for n in [16_777_216.0, 1.0] {
            single.add(n, true).expect("no overflow");
        }
        assert_eq!(single.0, Some(16_777_216.0));
        let mut moments = RealMoments::default();
        moments.add(1e160).expect("one number has no spread");
        assert_eq!(moments.add(-1e160), Err(Overflow));
        let mut pair = PairMoments::default();
        pair.add(f64::INFINITY, 1.0).expect("infinity is no overflow");
        pair.add(2.0, 2.0).expect("infinity is no overflow");
        let [n, x, xx, y, yy, xy] = pair.parts();
        assert_eq!((n, x, y, yy), (2.0, f64::INFINITY, 3.0, 0.5));
        assert!(xx.is_nan() && xy.is_nan());
    }
}
