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
pub(super) fn fair_shares(sites: &[Site], zones: usize, copies: &[u64]) -> Vec<f64> {
    let demand: f64 = copies.iter().map(|&b| b as f64).sum();
    let once = copies.first().map_or(0.0, |&b| b as f64);
    // A zone holds one copy of each segment, and those for which there is no further zone.
    let zone_most = once + copies.iter().skip(zones).map(|&b| b as f64).sum::<f64>();
    let weight: f64 = sites.iter().map(|s| s.weight as f64).sum();
    // Spreading over zones may load a worker beyond its weight's share, but not beyond its bytes. Where all is too
    // full anyhow, the weight's share is the measure.
    let fullness = (demand / weight).max(1.0);
    let limited = |fullness: f64| -> (Vec<f64>, Vec<(f64, f64)>) {
        let most: Vec<f64> = sites.iter().map(|s| once.min(s.weight as f64 * fullness)).collect();
        let mut by_zone = vec![(0.0, 0.0); zones];
        for (site, most) in sites.iter().zip(&most) {
            let zone = &mut by_zone[usize::from(site.zone)];
            zone.0 += site.weight as f64;
            zone.1 += most;
        }
        by_zone.iter_mut().for_each(|zone| zone.1 = zone.1.min(zone_most));
        (most, by_zone)
    };
    let (mut most, mut by_zone) = limited(fullness);
    if by_zone.iter().map(|zone| zone.1).sum::<f64>() < demand * 0.999_999 {
        (most, by_zone) = limited(f64::INFINITY);
    }
    let zone_shares = fill(demand, &by_zone);
    let mut shares = vec![0.0; sites.len()];
    for (zone, share) in zone_shares.into_iter().enumerate() {
        let members: Vec<usize> = (0..sites.len()).filter(|&i| usize::from(sites[i].zone) == zone).collect();
        let limits: Vec<_> = members.iter().map(|&i| (sites[i].weight as f64, most[i])).collect();
        for (i, share) in members.into_iter().zip(fill(share, &limits)) {
            shares[i] = share;
        }
    }
    shares
}

/// Divides `demand` in proportion to weight, none above its limit: `(weight, limit)` each.
fn fill(demand: f64, vessels: &[(f64, f64)]) -> Vec<f64> {
    let mut shares: Vec<f64> = vessels.iter().map(|v| v.1).collect();
    let mut order: Vec<usize> = (0..vessels.len()).collect();
    // Those that are full at the lowest level come first.
    order.sort_by(|&a, &b| (vessels[a].1 / vessels[a].0).total_cmp(&(vessels[b].1 / vessels[b].0)).then(a.cmp(&b)));
    let mut left = demand;
    let mut weight: f64 = vessels.iter().map(|v| v.0).sum();
    for (n, &i) in order.iter().enumerate() {
        let level = left / weight;
        if vessels[i].0 * level <= vessels[i].1 {
            order[n..].iter().for_each(|&j| shares[j] = vessels[j].0 * level);
            break;
        }
        left -= vessels[i].1;
        weight -= vessels[i].0;
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
