//! Fair shares: how many bytes each worker ought to hold. In proportion to its weight, except that a worker cannot
//! hold two copies of a segment, and a zone shall not while there are other zones.

/// A worker, as far as its share goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub(super) weight: u64,
    pub(super) zone: u16,
}

/// Shares in bytes. `copies[i]` is the bytes of all segments that have a copy number `i`, so `copies[0]` is the most
/// that one worker can hold. They add up to the sum of `copies`, unless the workers are fewer than the copies.
///
/// Spreading over zones may give a worker more than its weight's part, but not more than its bytes; what does not fit
/// then shares a zone. Where all is too full anyhow, the weight is the measure.
pub(super) fn fair_shares(sites: &[Site], zones: usize, copies: &[u64]) -> Vec<f64> {
    let demand: f64 = copies.iter().map(|&b| b as f64).sum();
    let once = copies.first().map_or(0.0, |&b| b as f64);
    // A zone holds one copy of each segment, and those for which there is no further zone.
    let zone_most = once + copies.iter().skip(zones).map(|&b| b as f64).sum::<f64>();
    let weight: f64 = sites.iter().map(|s| s.weight as f64).sum();
    let fullness = (demand / weight).max(1.0);
    let weights: Vec<f64> = sites.iter().map(|s| s.weight as f64).collect();
    let own: Vec<f64> = weights.iter().map(|w| once.min(w * fullness)).collect();
    let any = vec![once; sites.len()];
    let by_zone = |values: &[f64]| {
        let mut sums = vec![0.0; zones];
        sites.iter().zip(values).for_each(|(site, value)| sums[usize::from(site.zone)] += value);
        sums
    };
    let apart: Vec<f64> = by_zone(&own).into_iter().map(|limit| limit.min(zone_most)).collect();
    let zone_shares = fill(demand, &by_zone(&weights), &[apart, by_zone(&own), by_zone(&any)]);
    let mut shares = vec![0.0; sites.len()];
    for (zone, share) in zone_shares.into_iter().enumerate() {
        let members: Vec<usize> = (0..sites.len()).filter(|&i| usize::from(sites[i].zone) == zone).collect();
        let of = |values: &[f64]| members.iter().map(|&i| values[i]).collect::<Vec<_>>();
        for (i, share) in members.iter().zip(fill(share, &of(&weights), &[of(&own), of(&any)])) {
            shares[*i] = share;
        }
    }
    shares
}

/// Divides `demand` in proportion to `weights`, none above its limit. Each of `tiers` is a set of limits, none below
/// those of the tier before, which counts when all are at that one.
fn fill(demand: f64, weights: &[f64], tiers: &[Vec<f64>]) -> Vec<f64> {
    let mut shares = vec![0.0; weights.len()];
    let mut left = demand;
    for limits in tiers {
        let room: Vec<f64> = limits.iter().zip(&shares).map(|(limit, share)| (limit - share).max(0.0)).collect();
        let more = level(left, weights, &room);
        left -= more.iter().sum::<f64>();
        shares.iter_mut().zip(more).for_each(|(share, more)| *share += more);
        if left <= demand * 1e-12 {
            break;
        }
    }
    shares
}

/// The same with one set of limits.
fn level(demand: f64, weights: &[f64], limits: &[f64]) -> Vec<f64> {
    let mut shares = limits.to_vec();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    // Those that are full at the lowest level come first.
    order.sort_by(|&a, &b| (limits[a] / weights[a]).total_cmp(&(limits[b] / weights[b])).then(a.cmp(&b)));
    let mut left = demand;
    let mut weight: f64 = weights.iter().sum();
    for (n, &i) in order.iter().enumerate() {
        let level = left / weight;
        if weights[i] * level <= limits[i] {
            order[n..].iter().for_each(|&j| shares[j] = weights[j] * level);
            break;
        }
        left -= limits[i];
        weight -= weights[i];
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(weights: &[(u64, u16)], zones: usize, copies: &[u64]) -> Vec<u64> {
        let sites: Vec<_> = weights.iter().map(|&(weight, zone)| Site { weight, zone }).collect();
        fair_shares(&sites, zones, copies).into_iter().map(|s| s.round() as u64).collect()
    }

    #[test]
    fn follow_weight_zone_and_distinctness() {
        assert_eq!(shares(&[(1000, 0), (1000, 0), (2000, 0)], 1, &[100, 0]), [25, 25, 50]);
        // No worker can hold more than one copy of everything.
        assert_eq!(shares(&[(9000, 0), (1000, 0)], 1, &[100, 100]), [100, 100]);
        assert_eq!(shares(&[(8000, 0), (1000, 0), (1000, 0)], 1, &[100, 100]), [100, 50, 50]);
        // Two zones and two copies: each zone holds everything once, as long as it fits.
        assert_eq!(shares(&[(600, 0), (600, 0), (600, 1)], 2, &[100, 100]), [50, 50, 100]);
        assert_eq!(shares(&[(600, 0), (600, 0), (80, 1)], 2, &[100, 100]), [60, 60, 80]);
        // More bytes than all weights together: by weight.
        assert_eq!(shares(&[(4, 0), (4, 0), (2, 1)], 2, &[100, 50]), [60, 60, 30]);
        // Fewer workers than copies.
        assert_eq!(shares(&[(4, 0), (4, 0)], 1, &[100, 100, 100]), [100, 100]);
        assert_eq!(shares(&[(5, 0)], 1, &[0]), [0]);
    }
}
