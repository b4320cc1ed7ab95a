//! Cameras behind bad lines: what they are told of it, and what their viewers can still decode.

use std::time::Duration;

use honeycast::sim::SimSettings;

use crate::pictures::survivors;
use crate::site::{Camera, Site};
use crate::until;

/// About 12 s: three groups of pictures.
const PICTURES: u32 = 300;
/// Pictures at the end that may still be on their way: more than a second.
const MARGIN: u32 = 40;
/// Points of a hundred, as a share.
const TOLERANCE: f64 = 0.02;

/// A camera behind a line of its own. All of them run at the same time.
async fn behind(site: &Site, n: u32, change: impl FnOnce(&mut SimSettings)) -> Camera {
    let mut settings = site.settings(n);
    settings.behaviour.small_picture = false;
    settings.behaviour.frame_rate = 25;
    // What a camera is not asked for again is lost for good: that makes the truth about the loss known.
    settings.behaviour.answer_nack = false;
    change(&mut settings);
    site.camera(settings).await
}

/// Compares what viewers can decode with what survived the line.
async fn judge(site: &Site, camera: &Camera) -> (usize, usize) {
    camera.was_alone();
    let (twice, first, last, can) = {
        let tally = camera.tally();
        (tally.video.twice, tally.video.first().unwrap(), tally.last.unwrap(), tally.video.decodable())
    };
    assert_eq!(twice, 0, "{}: packets came twice", camera.id);
    let mut sent = camera.sim.pictures();
    sent.retain(|picture| (first..last - MARGIN).contains(&picture.number));
    assert!(sent.len() as u32 > PICTURES / 2, "{}", sent.len());
    let due = survivors(&sent);
    let missing: Vec<_> = due.iter().filter(|number| !can.contains(number)).collect();
    if !missing.is_empty() {
        let detail = site.detail(camera).await;
        panic!("{}: {} of {} pictures: {missing:?}\n{detail:#}", camera.id, missing.len(), due.len());
    }
    (can.len(), due.len())
}

/// The mean of the receiver reports against what the line lost.
fn told_the_truth(camera: &Camera) {
    let report = camera.report();
    let truth = report.packets_lost as f64 / report.packets_sent as f64;
    let told = report.mean_loss_reported.unwrap();
    assert!((told - truth).abs() <= TOLERANCE, "{}: told {told:.4}, lost {truth:.4}", camera.id);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_bad_lines_reports_are_true_and_viewers_decode_all_that_survives() {
    let site = Site::new(&[]);
    site.broker_is_there().await;
    let jitter = Duration::from_millis(30);
    let mut lossy = vec![
        behind(&site, 0, |settings| settings.faults.loss_percent = 1.0).await,
        behind(&site, 1, |settings| settings.faults.loss_percent = 5.0).await,
        behind(&site, 2, |settings| settings.faults.loss_percent = 20.0).await,
        behind(&site, 3, |settings| {
            (settings.faults.loss_percent, settings.faults.loss_burst) = (5.0, 8);
        })
        .await,
        behind(&site, 4, |settings| {
            let faults = &mut settings.faults;
            (faults.loss_percent, faults.reorder_percent) = (5.0, 5.0);
            (faults.duplicate_percent, faults.jitter) = (2.0, jitter);
        })
        .await,
    ];
    let mut others = vec![
        behind(&site, 5, |settings| {
            let faults = &mut settings.faults;
            (faults.reorder_percent, faults.duplicate_percent, faults.jitter) = (5.0, 2.0, jitter);
        })
        .await,
        behind(&site, 6, |settings| {
            (settings.faults.loss_percent, settings.faults.jitter) = (5.0, jitter);
            settings.behaviour.answer_nack = true;
        })
        .await,
        behind(&site, 7, |settings| {
            settings.faults.loss_percent = 20.0;
            settings.behaviour.answer_nack = true;
        })
        .await,
    ];
    for camera in lossy.iter_mut().chain(&mut others) {
        site.start(camera).await;
    }
    for camera in lossy.iter().chain(&others) {
        // With one packet of five lost hardly any picture is shown whole, but its beginning comes.
        until(&format!("{} sends", camera.id), async || camera.tally().last.is_some_and(|last| last >= PICTURES)).await;
    }
    for camera in &lossy {
        let (can, due) = judge(&site, camera).await;
        told_the_truth(camera);
        eprintln!("{}: {can} decodable, {due} had to be; {:?}", camera.id, camera.report().mean_loss_reported);
    }
    let (unspoilt, _) = judge(&site, &others[0]).await;
    assert!(unspoilt as u32 > PICTURES - MARGIN, "{unspoilt}");
    told_the_truth(&others[0]);
    // Five and twenty percent, with repeats and without.
    for (with, without) in [(&others[1], &lossy[1]), (&others[2], &lossy[2])] {
        let ((saved, due), (lost, _)) = (judge(&site, with).await, judge(&site, without).await);
        eprintln!("{}: {saved} decodable, {due} had to be; {lost} without repeats", with.id);
        assert!(saved > lost && with.report().packets_resent > 0, "{saved} with repeats, {lost} without");
    }
    site.end().await;
}
