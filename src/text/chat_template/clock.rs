//! The date that templates may ask for with `strftime_now`.

use std::{
    fmt::Write,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// What templates take for the present moment. A date in the prompt changes the answer, so whoever wants the same
/// answer tomorrow fixes it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Default for Clock {
    /// The machine's clock.
    fn default() -> Self {
        Self(Arc::new(SystemTime::now))
    }
}

impl Clock {
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// A clock that stands still.
    #[must_use]
    pub fn fixed(moment: SystemTime) -> Self {
        Self::new(move || moment)
    }

    /// Python's `datetime.now().strftime(format)` in the C locale. The time is UTC, so that the prompt does not depend
    /// on where the machine stands.
    #[must_use]
    pub(super) fn strftime(&self, format: &str) -> String {
        let since_1970 = (self.0)().duration_since(UNIX_EPOCH).unwrap_or_default();
        Moment::of(since_1970.as_secs() as i64).format(format)
    }
}

struct Moment {
    year: i64,
    /// From 1.
    month: usize,
    day: i64,
    /// From 0, a Sunday.
    weekday: usize,
    /// From 1.
    day_of_year: i64,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Moment {
    fn of(seconds: i64) -> Self {
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let mut year = 1970 + days / 366;
        while first_day(year + 1) <= days {
            year += 1;
        }
        let day_of_year = days - first_day(year);
        let february = first_day(year + 1) - first_day(year) - 337;
        let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let (mut month, mut day) = (0, day_of_year);
        while month < 11 && day >= lengths[month] {
            day -= lengths[month];
            month += 1;
        }
        Self {
            year,
            month: month + 1,
            day: day + 1,
            // 1 January 1970 was a Thursday.
            weekday: ((days + 4) % 7) as usize,
            day_of_year: day_of_year + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }

    fn format(&self, format: &str) -> String {
        let mut text = String::new();
        let mut rest = format.chars();
        while let Some(character) = rest.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let mut directive = rest.next();
            // glibc's flag: no filling up with zeros.
            let bare = directive == Some('-');
            if bare {
                directive = rest.next();
            }
            self.directive(directive, bare, &mut text);
        }
        text
    }

    fn directive(&self, directive: Option<char>, bare: bool, text: &mut String) {
        let hour = (self.hour + 11) % 12 + 1;
        let (number, width) = match directive {
            Some('Y') => (self.year, 1),
            Some('y') => (self.year % 100, 2),
            Some('m') => (self.month as i64, 2),
            Some('d') => (self.day, 2),
            Some('H') => (self.hour, 2),
            Some('I') => (hour, 2),
            Some('M') => (self.minute, 2),
            Some('S') => (self.second, 2),
            Some('j') => (self.day_of_year, 3),
            Some('w') => (self.weekday as i64, 1),
            Some('u') => ((self.weekday as i64 + 6) % 7 + 1, 1),
            Some('B') => return text.push_str(MONTHS[self.month - 1]),
            Some('b' | 'h') => return text.push_str(&MONTHS[self.month - 1][..3]),
            Some('A') => return text.push_str(DAYS[self.weekday]),
            Some('a') => return text.push_str(&DAYS[self.weekday][..3]),
            Some('p') => return text.push_str(if self.hour < 12 { "AM" } else { "PM" }),
            Some('e') if !bare => return text.push_str(&format!("{:2}", self.day)),
            Some('e') => (self.day, 1),
            Some('F') => return text.push_str(&self.format("%Y-%m-%d")),
            Some('D' | 'x') => return text.push_str(&self.format("%m/%d/%y")),
            Some('T' | 'X') => return text.push_str(&self.format("%H:%M:%S")),
            Some('R') => return text.push_str(&self.format("%H:%M")),
            Some('c') => return text.push_str(&self.format("%a %b %e %H:%M:%S %Y")),
            Some('%') => return text.push('%'),
            Some('n') => return text.push('\n'),
            Some('t') => return text.push('\t'),
            // A moment without a zone, as Python's, has neither name nor offset.
            Some('Z' | 'z') => return,
            unknown => {
                text.push('%');
                text.extend(bare.then_some('-'));
                return text.extend(unknown);
            }
        };
        let width = if bare { 1 } else { width };
        // Writing to a string cannot fail.
        let _ = write!(text, "{number:0width$}");
    }
}

/// Days from 1 January 1970 to 1 January of `year`.
fn first_day(year: i64) -> i64 {
    let before = year - 1;
    365 * (year - 1970) + before / 4 - before / 100 + before / 400 - 477
}
