//! What the screens do: the help kiosk's flow (price by scan or search, where a product stands, calling
//! staff) and the staff call that gate screens share with it.
//!
//! The screen's shell feeds touches, scans, answers and time, publishes the returned commands, and draws
//! [`View`].

use std::collections::BTreeMap;

use crate::message::{StaffAnswer, StaffCall, StaffCallState};
use crate::store::{Product, StoreMap};
use crate::time::{Instant, Millis};
use crate::units::{MessageId, Money, PlateId, ProductId};

/// Untouched for this long, the kiosk asks whether somebody is still there.
pub const WARN_AFTER: Millis = Millis::from_seconds(20);
/// Untouched for this long, it forgets what was on it; 30 s as field-notes section 4.2 asks.
pub const RESET_AFTER: Millis = Millis::from_seconds(30);
/// What "I need more time" adds: EN 301 549 wants a time limit that the user can stretch.
pub const MORE_TIME: Millis = Millis::from_seconds(60);
/// An unanswered call goes out again this often: the bus forgets events that nobody heard.
pub const CALL_REPEAT: Millis = Millis::from_seconds(2);
/// A call that reached staff devices goes out this often, so that a restarted console knows it again.
pub const CALL_REMIND: Millis = Millis::from_seconds(10);
/// When not even a staff device has taken the call by then, the shopper is told.
pub const CALL_LOST_AFTER: Millis = Millis::from_seconds(10);
/// An untouched call page turns back to the first page; the call itself goes on until staff closes it.
pub const CALL_PAGE_KEPT: Millis = Millis::from_seconds(300);
/// How long "done" stays on the screen.
pub const CALL_DONE_SHOWN: Millis = Millis::from_seconds(5);
/// Hits that a search lists; a shopper types another letter rather than reads more.
pub const HITS_MAX: usize = 24;
/// Letters of a search; product names are shorter.
pub const QUERY_MAX: usize = 40;

/// A language of the screens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// 한국어.
    Korean,
    /// English.
    English,
}

impl Language {
    /// All, in the order in which they are offered.
    pub const ALL: [Self; 2] = [Self::Korean, Self::English];

    /// BCP 47 tag, as in `Product::names`.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Korean => "ko",
            Self::English => "en",
        }
    }
}

/// What happened at a help kiosk.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The reader saw this text.
    Scan(String),
    /// Somebody touched the screen.
    Touch(Touch),
    /// Staff answered a call; not necessarily this kiosk's.
    Answer(StaffAnswer),
    /// The reader works, or does not.
    Reader(bool),
    /// The deadline has come.
    Tick,
}

/// What a shopper touched.
#[derive(Clone, Debug, PartialEq)]
pub enum Touch {
    /// A language, which also leaves the idle screen.
    Language(Language),
    /// Search by name.
    Search,
    /// The search text is now this.
    Query(String),
    /// A hit of the search.
    Choose(ProductId),
    /// A person, please.
    CallStaff,
    /// No longer needed.
    CancelCall,
    /// One page back.
    Back,
    /// To the first page, forgetting everything.
    Done,
    /// I am still here and need more time.
    MoreTime,
    /// Large print and controls in reach from a seat.
    LowReach(bool),
    /// Black and white.
    HighContrast(bool),
    /// Anything else; only keeps the screen awake.
    Elsewhere,
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Publish this call.
    Call(StaffCall),
}

/// What the help kiosk shows.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// Its language.
    pub language: Language,
    /// The page.
    pub page: Page,
    /// Seconds until everything is forgotten, while the kiosk asks whether somebody is there.
    pub leaving_s: Option<u64>,
    /// Controls in the lower third.
    pub low_reach: bool,
    /// Black and white.
    pub high_contrast: bool,
    /// Whether scanning can work.
    pub reader: bool,
}

/// A page of the help kiosk.
#[derive(Clone, Debug, PartialEq)]
pub enum Page {
    /// Nobody is there: choose a language or scan.
    Idle,
    /// Scan, search or call.
    Home,
    /// Search by name.
    Search {
        /// What was typed.
        query: String,
        /// Products, best first.
        hits: Vec<Hit>,
    },
    /// A product's price and place.
    Found(Found),
    /// The code was read, but is no product of this store.
    NotFound {
        /// The number or text, shortened for the screen.
        scanned: String,
    },
    /// The code is no product code at all (a web address, an entry code).
    NotAProduct,
    /// Staff was called.
    Call(CallView),
}

/// A line of the search.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Which.
    pub product: ProductId,
    /// Its name in the kiosk's language.
    pub name: String,
    /// Its price.
    pub price: Money,
}

/// A product with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Which.
    pub product: ProductId,
    /// Its name in the kiosk's language.
    pub name: String,
    /// Its price.
    pub price: Money,
    /// The first plate on which it stands; `None` when the store map has no place for it.
    pub place: Option<PlateId>,
}

/// How far a call is, for the shopper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallView {
    /// On its way to staff devices.
    Sending,
    /// On staff devices.
    Sent,
    /// Somebody has seen it.
    Seen,
    /// Somebody is on the way.
    Coming,
    /// Done.
    Closed,
    /// No staff device has taken it. It is repeated all the same.
    Lost,
}

/// One shopper's call for a person, from the button to "done"; kiosks and gate screens have one each.
#[derive(Clone, Debug)]
pub struct Call {
    from: String,
    open: Option<OpenCall>,
}

#[derive(Clone, Debug)]
struct OpenCall {
    call: StaffCall,
    state: Option<StaffCallState>,
    send_at: Instant,
    closed: Option<Instant>,
}

impl Call {
    /// No call yet from the screen named `from` ("kiosk-1", "entry-1").
    #[must_use]
    pub fn new(from: &str) -> Self {
        Self { from: from.to_owned(), open: None }
    }

    /// The shopper asks for a person. While a call is open this changes nothing.
    pub fn ask(&mut self, now: Instant, out: &mut Vec<Command>) {
        if self.open.as_ref().is_some_and(|open| open.closed.is_none()) {
            return;
        }
        let id = MessageId(format!("{}/{}", self.from, now.0));
        let call = StaffCall { id, from: self.from.clone(), at: now };
        out.push(Command::Call(call.clone()));
        self.open = Some(OpenCall { call, state: None, send_at: now.after(CALL_REPEAT), closed: None });
    }

    /// The shopper no longer waits at the screen. Staff, who may be on the way, closes the call on their
    /// side.
    pub fn forget(&mut self) {
        self.open = None;
    }

    /// Staff answered some call.
    pub fn answer(&mut self, now: Instant, answer: &StaffAnswer) {
        let Some(open) = self.open.as_mut().filter(|open| open.call.id == answer.call) else { return };
        // A console that starts again begins with "sent"; for the shopper it never goes backwards.
        let rank = |state: Option<StaffCallState>| match state {
            None => 0,
            Some(StaffCallState::Sent) => 1,
            Some(StaffCallState::Seen) => 2,
            Some(StaffCallState::Coming) => 3,
            Some(StaffCallState::Closed) => 4,
        };
        if rank(Some(answer.state)) <= rank(open.state) {
            return;
        }
        open.state = Some(answer.state);
        match answer.state {
            StaffCallState::Sent | StaffCallState::Seen | StaffCallState::Coming => {
                open.send_at = now.after(CALL_REMIND);
            }
            StaffCallState::Closed => open.closed = Some(now),
        }
    }

    /// Repeats what is due and forgets what is done.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Command>) {
        let Some(open) = &mut self.open else { return };
        if let Some(closed) = open.closed {
            if now.since(closed) >= CALL_DONE_SHOWN {
                self.open = None;
            }
            return;
        }
        if open.send_at <= now {
            out.push(Command::Call(open.call.clone()));
            open.send_at = now.after(if open.state.is_none() { CALL_REPEAT } else { CALL_REMIND });
        }
    }

    /// When [`Self::tick`] next has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.open
            .as_ref()
            .map(|open| open.closed.map_or(open.send_at, |closed| closed.after(CALL_DONE_SHOWN)))
    }

    /// How far it is; `None` without a call.
    #[must_use]
    pub fn view(&self, now: Instant) -> Option<CallView> {
        let open = self.open.as_ref()?;
        Some(match open.state {
            None if now.since(open.call.at) >= CALL_LOST_AFTER => CallView::Lost,
            None => CallView::Sending,
            Some(StaffCallState::Sent) => CallView::Sent,
            Some(StaffCallState::Seen) => CallView::Seen,
            Some(StaffCallState::Coming) => CallView::Coming,
            Some(StaffCallState::Closed) => CallView::Closed,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Idle,
    Home,
    Search { query: String },
    Found(ProductId),
    NotFound { scanned: String },
    NotAProduct,
    Call,
}

/// The help kiosk.
#[derive(Clone, Debug)]
pub struct Kiosk {
    catalogue: Catalogue,
    home_language: Language,
    language: Language,
    place: Place,
    /// Pages to go back to; cleared at home, so it stays short.
    behind: Vec<Place>,
    call: Call,
    touched_at: Instant,
    more_until: Instant,
    low_reach: bool,
    high_contrast: bool,
    reader: bool,
}

impl Kiosk {
    /// An idle kiosk named `name` in the store of `map`, which greets in `language`.
    #[must_use]
    pub fn new(name: &str, map: &StoreMap, language: Language) -> Self {
        Self {
            catalogue: Catalogue::new(map),
            home_language: language,
            language,
            place: Place::Idle,
            behind: Vec::new(),
            call: Call::new(name),
            touched_at: Instant::default(),
            more_until: Instant::default(),
            low_reach: false,
            high_contrast: false,
            reader: true,
        }
    }

    /// Takes one input. Total: never fails.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Vec<Command>) {
        match input {
            Input::Scan(text) => {
                self.touched_at = now;
                self.scan(&text);
            }
            Input::Touch(touch) => {
                self.touched_at = now;
                self.touch(now, touch, out);
            }
            Input::Answer(answer) => self.call.answer(now, &answer),
            Input::Reader(works) => self.reader = works,
            Input::Tick => {}
        }
        self.tick(now, out);
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Command>) {
        self.call.tick(now, out);
        let call_over = self.place == Place::Call && self.call.view(now).is_none();
        if call_over || (self.place != Place::Idle && self.reset_at() <= now) {
            self.reset();
        }
    }

    /// When everything on the screen is forgotten, unless somebody touches it.
    fn reset_at(&self) -> Instant {
        let span = if self.place == Place::Call { CALL_PAGE_KEPT } else { RESET_AFTER };
        self.touched_at.after(span).max(self.more_until)
    }

    /// When to call [`Self::handle`] with [`Input::Tick`]: the next change that time alone brings.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let lost = match self.call.view(now) {
            Some(CallView::Sending) => {
                self.call.open.as_ref().map(|open| open.call.at.after(CALL_LOST_AFTER))
            }
            Some(_) | None => None,
        };
        let idle = match self.place {
            Place::Idle => None,
            Place::Call => Some(self.reset_at()),
            Place::Home
            | Place::Search { .. }
            | Place::Found(_)
            | Place::NotFound { .. }
            | Place::NotAProduct => {
                let left = self.reset_at().since(now).0;
                let warning = RESET_AFTER.0 - WARN_AFTER.0;
                // While it warns, the seconds count down on the screen.
                let step = if left > warning { left - warning } else { left.saturating_sub(1) % 1000 + 1 };
                Some(if left == 0 { now } else { now.after(Millis(step)) })
            }
        };
        [self.call.deadline(), lost, idle].into_iter().flatten().min()
    }

    /// What to draw.
    #[must_use]
    pub fn view(&self, now: Instant) -> View {
        let page = match &self.place {
            Place::Idle => Page::Idle,
            Place::Home => Page::Home,
            Place::Search { query } => {
                Page::Search { query: query.clone(), hits: self.catalogue.search(query, self.language) }
            }
            Place::Found(product) => match self.catalogue.found(product, self.language) {
                Some(found) => Page::Found(found),
                None => Page::NotFound { scanned: product.0.clone() },
            },
            Place::NotFound { scanned } => Page::NotFound { scanned: scanned.clone() },
            Place::NotAProduct => Page::NotAProduct,
            Place::Call => self.call.view(now).map_or(Page::Home, Page::Call),
        };
        let left = self.reset_at().since(now);
        let waits = !matches!(self.place, Place::Idle | Place::Call);
        let warns = waits && left.0 <= RESET_AFTER.0 - WARN_AFTER.0;
        View {
            language: self.language,
            page,
            leaving_s: warns.then(|| left.0.div_ceil(1000)),
            low_reach: self.low_reach,
            high_contrast: self.high_contrast,
            reader: self.reader,
        }
    }

    /// Forgets everything about the shopper, their settings too; a call goes on without its page.
    fn reset(&mut self) {
        self.place = Place::Idle;
        self.behind.clear();
        self.language = self.home_language;
        self.low_reach = false;
        self.high_contrast = false;
        self.more_until = Instant::default();
    }

    fn scan(&mut self, text: &str) {
        match self.catalogue.scanned(text) {
            Scanned::Product(product) => self.go(Place::Found(product)),
            Scanned::Unknown(scanned) => self.go(Place::NotFound { scanned }),
            Scanned::NotAProduct => self.go(Place::NotAProduct),
        }
    }

    fn touch(&mut self, now: Instant, touch: Touch, out: &mut Vec<Command>) {
        match touch {
            Touch::Language(language) => {
                self.language = language;
                if self.place == Place::Idle {
                    self.go(Place::Home);
                }
            }
            Touch::Search => self.go(Place::Search { query: String::new() }),
            Touch::Query(text) => {
                let query = text.chars().filter(|letter| !letter.is_control()).take(QUERY_MAX).collect();
                match &mut self.place {
                    Place::Search { query: now } => *now = query,
                    Place::Idle
                    | Place::Home
                    | Place::Found(_)
                    | Place::NotFound { .. }
                    | Place::NotAProduct
                    | Place::Call => self.go(Place::Search { query }),
                }
            }
            Touch::Choose(product) => {
                if self.catalogue.products.contains_key(&product) {
                    self.go(Place::Found(product));
                }
            }
            Touch::CallStaff => {
                self.call.ask(now, out);
                self.go(Place::Call);
            }
            Touch::CancelCall => {
                self.call.forget();
                self.back();
            }
            Touch::Back => self.back(),
            Touch::Done => self.reset(),
            Touch::LowReach(on) => self.low_reach = on,
            Touch::HighContrast(on) => self.high_contrast = on,
            Touch::MoreTime => self.more_until = now.after(MORE_TIME),
            Touch::Elsewhere => {}
        }
    }

    fn go(&mut self, place: Place) {
        if self.place == place {
            return;
        }
        let search = matches!(self.place, Place::Search { .. }) && matches!(place, Place::Found(_));
        if search {
            self.behind.push(self.place.clone());
        } else if !matches!(place, Place::Call) {
            self.behind.clear();
        } else if !matches!(self.place, Place::Idle) {
            self.behind.push(self.place.clone());
        }
        self.place = place;
    }

    fn back(&mut self) {
        self.place = match (self.behind.pop(), &self.place) {
            (Some(place), _) => place,
            (None, Place::Home | Place::Idle) => Place::Idle,
            (None, _) => Place::Home,
        };
        if self.place == Place::Idle {
            self.reset();
        }
    }
}

/// What a scanned text turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A product of this store.
    Product(ProductId),
    /// A product code, but of nothing sold here.
    Unknown(String),
    /// No product code.
    NotAProduct,
}

/// The products of one store, to look up by code and name.
#[derive(Clone, Debug)]
pub struct Catalogue {
    products: BTreeMap<ProductId, Product>,
    by_gtin: BTreeMap<String, ProductId>,
    places: BTreeMap<ProductId, PlateId>,
}

impl Catalogue {
    /// The products and places of `map`.
    #[must_use]
    pub fn new(map: &StoreMap) -> Self {
        let products: BTreeMap<ProductId, Product> =
            map.products.iter().map(|product| (product.id.clone(), product.clone())).collect();
        let by_gtin = products.keys().filter_map(|id| Some((to_gtin14(&id.0)?, id.clone()))).collect();
        let mut places = BTreeMap::new();
        for facing in &map.facings {
            if let Some(plate) = facing.plates.first() {
                places.entry(facing.product.clone()).or_insert(*plate);
            }
        }
        Self { products, by_gtin, places }
    }

    /// Finds the product of a scanned text: a GTIN in any of its forms, or the operator's own number.
    #[must_use]
    pub fn scanned(&self, text: &str) -> Scanned {
        let own = ProductId(text.trim().to_owned());
        if self.products.contains_key(&own) {
            return Scanned::Product(own);
        }
        match gtin(text) {
            Some(gtin) => match self.by_gtin.get(&gtin) {
                Some(product) => Scanned::Product(product.clone()),
                None => Scanned::Unknown(gtin.trim_start_matches('0').to_owned()),
            },
            None => Scanned::NotAProduct,
        }
    }

    /// The product with its place; `None` when it is not sold here.
    #[must_use]
    pub fn found(&self, product: &ProductId, language: Language) -> Option<Found> {
        let entry = self.products.get(product)?;
        Some(Found {
            product: product.clone(),
            name: entry.name(language.tag()).to_owned(),
            price: entry.price,
            place: self.places.get(product).copied(),
        })
    }

    /// Products whose name (in any language) contains `query` whatever the case, or whose initial consonants
    /// do (ㅂㄴ finds 바나나), or whose number does when four digits or more are typed. At most [`HITS_MAX`],
    /// those that begin with the query first, then by name. An empty query finds all, by name.
    #[must_use]
    pub fn search(&self, query: &str, language: Language) -> Vec<Hit> {
        let query = fold(query);
        let digits = query.len() >= 4 && query.iter().all(char::is_ascii_digit);
        let mut hits: Vec<(usize, Hit)> = Vec::new();
        for (id, product) in &self.products {
            let name = product.name(language.tag());
            let shown = find(&fold(name), &query);
            let other = product.names.values().filter_map(|name| find(&fold(name), &query)).min();
            let number = digits && id.0.contains(&query.iter().collect::<String>());
            let rank = match (shown, other) {
                (Some(0), _) => 0,
                (Some(_), _) => 1,
                (None, Some(_)) => 2,
                (None, None) if number => 3,
                (None, None) => continue,
            };
            let hit = Hit { product: id.clone(), name: name.to_owned(), price: product.price };
            hits.push((rank, hit));
        }
        hits.sort_by(|(a, first), (b, second)| {
            (a, &first.name, &first.product).cmp(&(b, &second.name, &second.product))
        });
        hits.truncate(HITS_MAX);
        hits.into_iter().map(|(_, hit)| hit).collect()
    }
}

/// Letters for comparing: lower case, without spaces (Korean names are spaced freely).
fn fold(text: &str) -> Vec<char> {
    text.chars().filter(|letter| !letter.is_whitespace()).flat_map(char::to_lowercase).collect()
}

fn find(name: &[char], query: &[char]) -> Option<usize> {
    (0..=name.len().checked_sub(query.len())?).find(|start| begins(&name[*start..], query))
}

fn begins(name: &[char], query: &[char]) -> bool {
    let last = query.len().saturating_sub(1);
    query.iter().enumerate().all(|(index, letter)| {
        let at = &name[index..];
        at.first().is_some_and(|found| {
            letter == found || initial(*found) == Some(*letter) || (index == last && unfinished(at, *letter))
        })
    })
}

/// The initial consonants in the order in which Unicode composes syllables (Unicode Standard, section 3.12).
const INITIALS: [char; 19] = [
    'ㄱ', 'ㄲ', 'ㄴ', 'ㄷ', 'ㄸ', 'ㄹ', 'ㅁ', 'ㅂ', 'ㅃ', 'ㅅ', 'ㅆ', 'ㅇ', 'ㅈ', 'ㅉ', 'ㅊ', 'ㅋ', 'ㅌ',
    'ㅍ', 'ㅎ',
];
/// The final consonants in the same order; the first is none.
const FINALS: [char; 28] = [
    '\0', 'ㄱ', 'ㄲ', 'ㄳ', 'ㄴ', 'ㄵ', 'ㄶ', 'ㄷ', 'ㄹ', 'ㄺ', 'ㄻ', 'ㄼ', 'ㄽ', 'ㄾ', 'ㄿ', 'ㅀ', 'ㅁ',
    'ㅂ', 'ㅄ', 'ㅅ', 'ㅆ', 'ㅇ', 'ㅈ', 'ㅊ', 'ㅋ', 'ㅌ', 'ㅍ', 'ㅎ',
];

/// Index of a syllable among the 11172, `None` for any other letter.
fn syllable(letter: char) -> Option<u32> {
    (u32::from(letter)).checked_sub(0xAC00).filter(|index| *index < 11_172)
}

fn initial(letter: char) -> Option<char> {
    syllable(letter).map(|index| INITIALS[(index / 588) as usize])
}

/// Whether the syllable being typed can still become what stands at `name`: 바 on the way to 반, and 반 on the
/// way to 바나, since a final consonant moves to the next syllable once a vowel follows.
fn unfinished(name: &[char], typed: char) -> bool {
    let Some(typed) = syllable(typed) else { return false };
    let Some(found) = name.first().copied().and_then(syllable) else { return false };
    if typed / 28 != found / 28 {
        return false;
    }
    if typed % 28 == 0 {
        return true;
    }
    let moved = FINALS[(typed % 28) as usize];
    found % 28 == 0 && name.get(1).copied().and_then(initial) == Some(moved)
}

/// The GTIN in a scanned text, as 14 digits with a right check digit: bare GTIN-8, UPC-A, EAN-13 or GTIN-14,
/// a GS1 Digital Link (`https://…/01/GTIN…`), or a GS1 element string (`(01)GTIN…`, or as readers send it,
/// with or without the AIM symbology identifier). `None` when there is none.
///
/// Sources: GS1 General Specifications, sections 3 and 7.9 (check digit); GS1 Digital Link URI Syntax 1.6.
#[must_use]
pub fn gtin(text: &str) -> Option<String> {
    let text = text.trim();
    if let Some(rest) = strip_scheme(text) {
        let path = rest.split(['?', '#']).next().unwrap_or(rest);
        let mut parts = path.split('/').skip(1);
        while let Some(part) = parts.next() {
            if part == "01" || part == "gtin" {
                return to_gtin14(parts.next()?);
            }
        }
        return None;
    }
    if let Some(rest) = text.strip_prefix("(01)") {
        return to_gtin14(rest.get(..14)?);
    }
    // AIM identifiers: ]C1 GS1-128, ]e0 GS1 DataBar, ]d2 GS1 DataMatrix, ]Q3 GS1 QR, ]E0 EAN-13 and UPC, ]E4
    // EAN-8.
    let (identifier, body) = match text.strip_prefix(']') {
        Some(rest) => (rest.get(..2)?, rest.get(2..)?),
        None => ("", text),
    };
    let body = body.trim_start_matches('\u{1d}');
    if matches!(identifier, "E0" | "E4") || (identifier.is_empty() && body.len() <= 14) {
        return to_gtin14(body);
    }
    // Element strings have at most 90 characters; a longer run of digits is an entry code.
    if body.len() > 90 {
        return None;
    }
    to_gtin14(body.strip_prefix("01")?.get(..14)?)
}

fn strip_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    (scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")).then_some(rest)
}

/// Fills a GTIN of 8, 12, 13 or 14 digits to 14; `None` for another length, another letter or a wrong check
/// digit.
fn to_gtin14(digits: &str) -> Option<String> {
    if !matches!(digits.len(), 8 | 12 | 13 | 14) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let padded = format!("{digits:0>14}");
    let sum: u32 = padded
        .bytes()
        .enumerate()
        .map(|(index, digit)| u32::from(digit - b'0') * if index % 2 == 0 { 3 } else { 1 })
        .sum();
    (sum.is_multiple_of(10)).then_some(padded)
}

#[cfg(test)]
mod tests;
