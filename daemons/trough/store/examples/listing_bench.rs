//! Measures a listing of the store that is given: `listing_bench DIRECTORY`, three times over.

use std::time::Instant;

use futures::StreamExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).ok_or("usage: listing_bench DIRECTORY")?;
    let store = trough_store::open(&url)?;
    for _ in 0..3 {
        let (begun, mut count, mut listing) = (Instant::now(), 0_u64, store.list());
        while let Some(entry) = listing.next().await {
            entry?;
            count += 1;
        }
        println!("{count} segments in {:.3} s, {:?}", begun.elapsed().as_secs_f64(), store.list_stats());
    }
    Ok(())
}
