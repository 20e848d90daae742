//! Integers of any size, with the operations that verify that the numbers of a key belong together.
//!
//! Numbers come and go as big-endian bytes. Speed does not matter: a key is checked once, and its size is bounded by
//! the caller (the product of two 8,192-bit primes is 16,384 steps, a remainder of that size about two million).

use super::effort;

/// The number of bits of `number` without leading zeros.
pub(super) fn bits(number: &[u8]) -> u32 {
    let number = super::tlv::trim(number);
    let spare = number.first().map_or(0, |byte| byte.leading_zeros());
    (number.len() as u32).saturating_mul(8).saturating_sub(spare)
}

/// Whether `a` is less than `b`.
pub(super) fn is_less(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (super::tlv::trim(a), super::tlv::trim(b));
    (a.len(), a) < (b.len(), b)
}

/// The number of bits that `bytes` have, leading zeros included.
pub(super) fn bits_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).saturating_mul(8)
}

/// Whether `number` is odd.
pub(super) fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|byte| byte & 1 == 1)
}

/// `a * b`, without leading zeros.
pub(super) fn product(a: &[u8], b: &[u8]) -> Vec<u8> {
    let (a, b) = (limbs(a), limbs(b));
    effort::charge(a.len() * b.len());
    let mut sum = vec![0u64; a.len() + b.len()];
    for (i, &x) in a.iter().enumerate() {
        let mut carry = 0u128;
        for (place, &y) in sum.iter_mut().skip(i).zip(b.iter().chain(std::iter::once(&0))) {
            // (2^64-1)^2 + 2 (2^64-1) is 2^128-1, so this never overflows.
            carry += u128::from(x) * u128::from(y) + u128::from(*place);
            *place = carry as u64;
            carry >>= 64;
        }
    }
    bytes(&sum)
}

/// `a` modulo `m`, without leading zeros; nothing of `m` 0.
pub(super) fn remainder(a: &[u8], m: &[u8]) -> Vec<u8> {
    let m = limbs(m);
    if m.iter().all(|&limb| limb == 0) {
        return Vec::new();
    }
    effort::charge(8 * a.len() * (m.len() + 1));
    // One limb more than `m`, so that doubling never overflows.
    let mut rest = vec![0u64; m.len() + 1];
    for byte in a {
        for bit in (0..8).rev() {
            double(&mut rest, u64::from(byte >> bit & 1));
            if at_least(&rest, &m) {
                subtract(&mut rest, &m);
            }
        }
    }
    bytes(&rest)
}

/// `number - 1`; of 0 it is 0.
pub(super) fn less_one(number: &[u8]) -> Vec<u8> {
    let mut limbs = limbs(number);
    if limbs.iter().any(|&limb| limb != 0) {
        subtract(&mut limbs, &[1]);
    }
    bytes(&limbs)
}

/// The 64-bit digits of `number`, least first.
fn limbs(number: &[u8]) -> Vec<u64> {
    number.rchunks(8).map(|chunk| chunk.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))).collect()
}

fn bytes(limbs: &[u64]) -> Vec<u8> {
    let all: Vec<u8> = limbs.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect();
    super::tlv::trim(&all).to_vec()
}

fn double(limbs: &mut [u64], mut carry: u64) {
    for limb in limbs {
        (*limb, carry) = (*limb << 1 | carry, *limb >> 63);
    }
}

/// Whether `a >= b`, where `b` has no more limbs than `a`.
fn at_least(a: &[u64], b: &[u64]) -> bool {
    let longer = a.iter().rev();
    let padded = std::iter::repeat_n(&0, a.len().saturating_sub(b.len())).chain(b.iter().rev());
    longer.cmp(padded).is_ge()
}

/// `a -= b`, where `b` is not larger than `a`.
fn subtract(a: &mut [u64], b: &[u64]) {
    let mut borrow = false;
    for (limb, &take) in a.iter_mut().zip(b.iter().chain(std::iter::repeat(&0))) {
        let (once, first) = limb.overflowing_sub(take);
        let (twice, second) = once.overflowing_sub(u64::from(borrow));
        (*limb, borrow) = (twice, first || second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!((bits(&[]), bits(&[0, 0]), bits(&[0, 1]), bits(&[0x80, 0])), (0, 0, 1, 16));
        for (a, b, expected) in
            [(&[2][..], &[1, 0][..], true), (&[0, 9], &[9], false), (&[8], &[9], true), (&[], &[0], false)]
        {
            assert_eq!(is_less(a, b), expected, "{a:?} {b:?}");
        }
        assert!(is_odd(&[3]) && !is_odd(&[]) && !is_odd(&[1, 0]));
    }

    #[test]
    fn arithmetic_agrees_with_the_machine() {
        let samples = [0u64, 1, 2, 255, 256, 65_537, 0xffff_ffff, 0x1234_5678_9abc_def0, u64::MAX];
        let short = |n: u128| super::super::tlv::trim(&n.to_be_bytes()).to_vec();
        for a in samples {
            for b in samples {
                let full = u128::from(a) * u128::from(b);
                assert_eq!(product(&a.to_be_bytes(), &b.to_be_bytes()), short(full), "{a} * {b}");
                if b > 0 {
                    let odd = full + 12_345;
                    assert_eq!(remainder(&odd.to_be_bytes(), &b.to_be_bytes()), short(odd % u128::from(b)));
                }
            }
            assert_eq!(less_one(&a.to_be_bytes()), short(u128::from(a.saturating_sub(1))));
        }
        assert_eq!(remainder(&[7], &[0]), Vec::<u8>::new());
        let square = product(&[0xff; 20], &[0xff; 20]);
        assert_eq!(remainder(&square, &[0xff; 20]), Vec::<u8>::new());
        assert_eq!(square.len(), 40);
    }
}
