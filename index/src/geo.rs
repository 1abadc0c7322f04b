//! Places on the globe and the areas that filters name: boxes, circles, polygons.
//!
//! Distances are great circles on a sphere of Earth's mean radius, as Qdrant measures them.

use crate::payload::{Kind, ValueRef};

/// Metres from Earth's centre to its surface, on average.
const EARTH_RADIUS_METRES: f64 = 6_371_008.8;

/// A place, in degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GeoPoint {
    /// Degrees east, -180 to 180.
    pub lon: f64,
    /// Degrees north, -90 to 90.
    pub lat: f64,
}

/// What a filter may ask to lie in.
#[derive(Debug, Clone, PartialEq)]
pub enum GeoArea {
    /// Between two corners; it crosses the date line if its west is east of its east.
    Box {
        /// North-west corner.
        top_left: GeoPoint,
        /// South-east corner.
        bottom_right: GeoPoint,
    },
    /// No further than some metres.
    Radius {
        /// The middle.
        center: GeoPoint,
        /// Metres.
        metres: f64,
    },
    /// In a ring, and in none of the rings that are holes in it.
    Polygon {
        /// Its outer ring, closed or not.
        exterior: Vec<GeoPoint>,
        /// Its holes.
        interiors: Vec<Vec<GeoPoint>>,
    },
}

impl GeoPoint {
    /// The place with these degrees, if there is one.
    pub fn new(lon: f64, lat: f64) -> Option<Self> {
        let on_globe = (-180.0..=180.0).contains(&lon) && (-90.0..=90.0).contains(&lat);
        on_globe.then_some(Self { lon, lat })
    }

    /// The place of a payload value `{"lon": .., "lat": ..}`.
    pub fn from_value(value: ValueRef<'_>) -> Option<Self> {
        if !matches!(value.kind(), Kind::Object(_)) {
            return None;
        }
        Self::new(value.field("lon")?.as_f64()?, value.field("lat")?.as_f64()?)
    }

    /// Metres to another place.
    pub fn metres_to(self, other: Self) -> f64 {
        let (lat_a, lat_b) = (self.lat.to_radians(), other.lat.to_radians());
        let half = |degrees: f64| (degrees.to_radians() / 2.0).sin().powi(2);
        let a = half(other.lat - self.lat) + lat_a.cos() * lat_b.cos() * half(other.lon - self.lon);
        2.0 * EARTH_RADIUS_METRES * a.sqrt().min(1.0).asin()
    }
}

impl GeoArea {
    /// Whether a place lies in it.
    pub fn contains(&self, point: GeoPoint) -> bool {
        match self {
            Self::Box {
                top_left,
                bottom_right,
            } => {
                let in_lat = (bottom_right.lat..=top_left.lat).contains(&point.lat);
                let in_lon = if top_left.lon <= bottom_right.lon {
                    (top_left.lon..=bottom_right.lon).contains(&point.lon)
                } else {
                    point.lon >= top_left.lon || point.lon <= bottom_right.lon
                };
                in_lat && in_lon
            }
            Self::Radius { center, metres } => center.metres_to(point) <= *metres,
            Self::Polygon {
                exterior,
                interiors,
            } => in_ring(exterior, point) && !interiors.iter().any(|ring| in_ring(ring, point)),
        }
    }

    /// South and north end, in degrees, of a band that holds the whole area.
    pub(crate) fn latitudes(&self) -> (f64, f64) {
        match self {
            Self::Box {
                top_left,
                bottom_right,
            } => (bottom_right.lat, top_left.lat),
            Self::Radius { center, metres } => {
                // a metre more than asked, so that rounding leaves nothing out
                let degrees = ((metres + 1.0) / EARTH_RADIUS_METRES).to_degrees();
                (center.lat - degrees, center.lat + degrees)
            }
            Self::Polygon { exterior, .. } => {
                let lats = exterior.iter().map(|point| point.lat);
                (
                    lats.clone().fold(90.0, f64::min),
                    lats.fold(-90.0, f64::max),
                )
            }
        }
    }
}

/// Whether a ray to the east crosses the ring an odd number of times.
fn in_ring(ring: &[GeoPoint], point: GeoPoint) -> bool {
    let mut inside = false;
    let Some(mut from) = ring.last() else {
        return false;
    };
    for to in ring {
        if (from.lat > point.lat) != (to.lat > point.lat) {
            let along = (point.lat - from.lat) / (to.lat - from.lat);
            inside ^= point.lon < from.lon + along * (to.lon - from.lon);
        }
        from = to;
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(lon: f64, lat: f64) -> GeoPoint {
        GeoPoint::new(lon, lat).unwrap()
    }

    #[test]
    fn distances_are_those_of_the_globe() {
        let (berlin, paris) = (place(13.405, 52.52), place(2.3522, 48.8566));
        let metres = berlin.metres_to(paris);
        assert!((metres - 877_460.0).abs() < 1_000.0, "{metres}");
        let around = place(179.9, 0.0).metres_to(place(-179.9, 0.0));
        assert!((around - 22_239.0).abs() < 10.0, "{around}");
    }

    #[test]
    fn areas_hold_what_lies_in_them() {
        let over_date_line = GeoArea::Box {
            top_left: place(170.0, 10.0),
            bottom_right: place(-170.0, -10.0),
        };
        assert!(over_date_line.contains(place(-175.0, 0.0)));
        assert!(!over_date_line.contains(place(0.0, 0.0)));
        let square = |size: f64| {
            vec![
                place(-size, -size),
                place(-size, size),
                place(size, size),
                place(size, -size),
            ]
        };
        let ring = GeoArea::Polygon {
            exterior: square(2.0),
            interiors: vec![square(1.0)],
        };
        assert!(ring.contains(place(1.5, 0.0)));
        assert!(!ring.contains(place(0.5, 0.0)));
        assert!(!ring.contains(place(3.0, 0.0)));
        let circle = GeoArea::Radius {
            center: place(0.0, 0.0),
            metres: 111_000.0,
        };
        assert!(circle.contains(place(0.99, 0.0)));
        assert!(!circle.contains(place(1.01, 0.0)));
    }

    #[test]
    fn degrees_that_no_place_has_are_refused() {
        for (lon, lat) in [(181.0, 0.0), (0.0, -90.1), (f64::NAN, 0.0)] {
            assert_eq!(GeoPoint::new(lon, lat), None);
        }
    }
}
