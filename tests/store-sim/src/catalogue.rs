//! The goods of a Korean convenience store: names, prices, masses, packs. Names are invented kinds, not
//! brands.

use std::collections::BTreeMap;

use engine::store::Product;
use engine::units::{Currency, Mass, Money, ProductId};

use crate::dice::Dice;

/// A pack's outline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A carton, tray or bar.
    Box,
    /// A bottle, can or cup, standing.
    Round,
    /// A soft bag or pouch.
    Bag,
}

/// What a pack looks like.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Width, depth, height, metres.
    pub size: [f64; 3],
    /// Main colour.
    pub colour: [u8; 3],
    /// Outline.
    pub shape: Shape,
    /// How often it is taken, relative to others.
    pub popularity: f64,
}

use Shape::{Bag, Box, Round};

/// Korean name, English name, won, grams, outline, millimetres (width, depth, height).
type Row = (&'static str, &'static str, i64, f64, Shape, [u16; 3]);

const ROWS: [Row; 72] = [
    ("참치마요 삼각김밥", "Tuna mayo triangle kimbap", 1300, 110.0, Bag, [90, 35, 80]),
    ("전주비빔 삼각김밥", "Bibimbap triangle kimbap", 1300, 112.0, Bag, [90, 35, 80]),
    ("불고기 삼각김밥", "Bulgogi triangle kimbap", 1400, 115.0, Bag, [90, 35, 80]),
    ("명란 삼각김밥", "Pollock roe triangle kimbap", 1500, 108.0, Bag, [90, 35, 80]),
    ("야채 김밥", "Vegetable kimbap roll", 2800, 210.0, Box, [200, 60, 50]),
    ("돈까스 김밥", "Cutlet kimbap roll", 3300, 235.0, Box, [200, 60, 50]),
    ("햄치즈 샌드위치", "Ham and cheese sandwich", 2900, 165.0, Box, [120, 60, 110]),
    ("에그 샌드위치", "Egg sandwich", 2700, 158.0, Box, [120, 60, 110]),
    ("치킨 버거", "Chicken burger", 3400, 190.0, Round, [100, 100, 70]),
    ("불고기 버거", "Bulgogi burger", 3200, 185.0, Round, [100, 100, 70]),
    ("제육 도시락", "Spicy pork lunch box", 5200, 430.0, Box, [220, 180, 50]),
    ("닭갈비 도시락", "Dakgalbi lunch box", 5400, 445.0, Box, [220, 180, 50]),
    ("매운 컵라면", "Spicy cup noodles", 1250, 68.0, Round, [95, 95, 75]),
    ("순한 컵라면", "Mild cup noodles", 1150, 65.0, Round, [95, 95, 75]),
    ("해물 컵라면", "Seafood cup noodles", 1350, 75.0, Round, [95, 95, 80]),
    ("큰컵 매운 라면", "Large spicy cup noodles", 1600, 114.0, Round, [140, 140, 80]),
    ("짜장 큰사발", "Large black bean noodles", 1700, 123.0, Round, [140, 140, 80]),
    ("봉지 라면", "Noodle packet", 1000, 120.0, Bag, [130, 40, 110]),
    ("비빔면", "Cold spicy noodles", 1100, 130.0, Bag, [130, 40, 110]),
    ("즉석밥", "Instant rice", 1850, 216.0, Round, [140, 140, 45]),
    ("흑미 즉석밥", "Instant black rice", 2000, 222.0, Round, [140, 140, 45]),
    ("생수 500", "Still water 500 ml", 950, 515.0, Round, [65, 65, 210]),
    ("탄산수 500", "Sparkling water 500 ml", 1500, 525.0, Round, [65, 65, 210]),
    ("생수 1리터", "Still water 1 l", 1600, 1032.0, Round, [85, 85, 265]),
    ("우유 1리터", "Milk 1 l", 2950, 1045.0, Box, [75, 75, 235]),
    ("오렌지주스 1.5", "Orange juice 1.5 l", 4800, 1500.0, Round, [95, 95, 300]),
    ("콜라 캔", "Cola can", 1800, 372.0, Round, [66, 66, 122]),
    ("제로콜라 캔", "Zero cola can", 1800, 368.0, Round, [66, 66, 122]),
    ("사이다 캔", "Lemon soda can", 1700, 370.0, Round, [66, 66, 122]),
    ("콜라 500", "Cola 500 ml", 2200, 545.0, Round, [66, 66, 225]),
    ("이온음료", "Isotonic drink", 1900, 540.0, Round, [66, 66, 220]),
    ("캔커피", "Canned coffee", 1300, 205.0, Round, [53, 53, 105]),
    ("라떼 캔커피", "Canned latte", 1400, 208.0, Round, [53, 53, 105]),
    ("컵커피", "Cup coffee", 2500, 265.0, Round, [75, 75, 120]),
    ("카라멜 컵커피", "Caramel cup coffee", 2600, 270.0, Round, [75, 75, 120]),
    ("바나나우유", "Banana milk", 1700, 255.0, Round, [65, 65, 95]),
    ("딸기우유", "Strawberry milk", 1700, 258.0, Round, [65, 65, 95]),
    ("초코우유", "Chocolate milk", 1800, 262.0, Box, [60, 45, 110]),
    ("두유", "Soy milk", 1200, 200.0, Box, [55, 40, 110]),
    ("플레인 요거트", "Plain yoghurt", 1400, 95.0, Round, [70, 70, 60]),
    ("딸기 요거트", "Strawberry yoghurt", 1400, 98.0, Round, [70, 70, 60]),
    ("마시는 요거트", "Drinking yoghurt", 1600, 160.0, Round, [50, 50, 120]),
    ("스트링치즈", "String cheese", 1500, 24.0, Bag, [40, 15, 150]),
    ("구운계란", "Roasted eggs", 2200, 102.0, Bag, [110, 50, 60]),
    ("훈제계란", "Smoked eggs", 2300, 106.0, Bag, [110, 50, 60]),
    ("닭가슴살", "Chicken breast", 3300, 122.0, Bag, [130, 25, 170]),
    ("후랑크 소시지", "Frank sausage", 1900, 80.0, Bag, [45, 30, 170]),
    ("핫바", "Fish cake bar", 2000, 84.0, Bag, [45, 30, 170]),
    ("어묵 소시지", "Fish sausage", 1000, 44.0, Bag, [30, 25, 160]),
    ("바나나 한 손", "Two bananas", 1900, 290.0, Bag, [90, 70, 180]),
    ("사과", "Apple", 1800, 220.0, Round, [80, 80, 75]),
    ("방울토마토 컵", "Cherry tomatoes cup", 2900, 235.0, Round, [95, 95, 100]),
    ("과일 컵", "Fruit cup", 3200, 180.0, Round, [95, 95, 90]),
    ("감자칩", "Potato crisps", 1700, 66.0, Bag, [160, 60, 220]),
    ("양파맛 과자", "Onion rings", 1700, 84.0, Bag, [160, 60, 220]),
    ("새우맛 과자", "Prawn crackers", 1500, 90.0, Bag, [160, 60, 220]),
    ("옥수수 과자", "Corn puffs", 1500, 72.0, Bag, [160, 60, 220]),
    ("초코파이", "Chocolate pie", 700, 39.0, Box, [75, 75, 30]),
    ("초코바", "Chocolate bar", 1500, 51.0, Box, [140, 35, 20]),
    ("견과바", "Nut bar", 1600, 35.0, Box, [120, 35, 20]),
    ("판초콜릿", "Chocolate tablet", 1800, 60.0, Box, [150, 75, 12]),
    ("젤리", "Fruit jellies", 1500, 100.0, Bag, [110, 25, 150]),
    ("껌", "Chewing gum", 1000, 26.0, Box, [75, 35, 12]),
    ("민트캔디", "Mint drops", 2000, 30.0, Box, [60, 40, 15]),
    ("막대과자", "Biscuit sticks", 1700, 54.0, Box, [90, 25, 150]),
    ("버터쿠키", "Butter biscuits", 1800, 86.0, Box, [160, 45, 60]),
    ("크림빵", "Cream bun", 1600, 96.0, Bag, [110, 100, 50]),
    ("단팥빵", "Red bean bun", 1500, 105.0, Bag, [110, 100, 50]),
    ("땅콩", "Roasted peanuts", 2500, 130.0, Bag, [110, 30, 160]),
    ("구운 김", "Roasted seaweed", 1500, 20.0, Box, [110, 50, 80]),
    ("휴지 팩", "Pocket tissues", 1000, 150.0, Bag, [110, 80, 60]),
    ("칫솔 세트", "Toothbrush set", 3500, 58.0, Box, [60, 30, 200]),
];

/// Products and their looks, index by index; looks and popularity vary with the seed, names and prices do
/// not.
#[must_use]
pub fn products(dice: &mut Dice) -> (Vec<Product>, Vec<Look>) {
    let mut products = Vec::with_capacity(ROWS.len());
    let mut looks = Vec::with_capacity(ROWS.len());
    for (index, (korean, english, won, grams, shape, size)) in ROWS.iter().enumerate() {
        // 880 is Korea's GS1 prefix.
        let digits = format!("880{:09}", 410_070_000 + 137 * index as u64);
        let names = BTreeMap::from([
            ("ko".to_owned(), (*korean).to_owned()),
            ("en".to_owned(), (*english).to_owned()),
        ]);
        // Packs of one product differ by some 0.7 % of their mass.
        let spread = (grams * dice.between(0.004, 0.010)).max(0.3);
        products.push(Product {
            id: ProductId(with_check_digit(&digits)),
            names,
            price: Money { minor: *won, currency: Currency::KRW },
            mass: Mass::from_grams(*grams),
            mass_sd: Mass::from_grams(spread),
        });
        looks.push(Look {
            size: size.map(|millimetres| f64::from(millimetres) / 1000.0),
            colour: colour(dice),
            shape: *shape,
            popularity: (0.5 * dice.normal()).exp(),
        });
    }
    (products, looks)
}

/// Packaging is mostly bright: an even hue, strong or pale.
fn colour(dice: &mut Dice) -> [u8; 3] {
    let hue = dice.between(0.0, 6.0);
    let strength = dice.between(0.25, 0.95);
    let value = dice.between(110.0, 250.0);
    [5.0, 3.0, 1.0].map(|offset: f64| {
        let place = (offset + hue) % 6.0;
        (value * (1.0 - strength * place.min(4.0 - place).clamp(0.0, 1.0))) as u8
    })
}

/// A GTIN-13 from its first twelve digits (GS1 General Specifications, 7.9: weights 1 and 3 from the left).
#[must_use]
pub fn with_check_digit(twelve: &str) -> String {
    let sum: u32 = twelve
        .bytes()
        .enumerate()
        .map(|(place, digit)| u32::from(digit - b'0') * if place % 2 == 0 { 1 } else { 3 })
        .sum();
    format!("{twelve}{}", (10 - sum % 10) % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_are_those_of_gs1() {
        // The example of the GS1 General Specifications, section 7.9: GTIN-13 6291041500213.
        assert_eq!(with_check_digit("629104150021"), "6291041500213");
    }

    #[test]
    fn masses_are_as_close_as_in_a_real_store() {
        let (products, looks) = products(&mut Dice::new(1, 1));
        assert_eq!(products.len(), looks.len());
        let mut masses: Vec<i64> = products.iter().map(|product| product.mass.0).collect();
        let near = products
            .iter()
            .filter(|one| {
                products.iter().any(|other| other.id != one.id && (other.mass.0 - one.mass.0).abs() <= 100)
            })
            .count();
        // 83 % in the recorded store (design.md section 6).
        assert!(near * 100 >= products.len() * 80, "{near} of {}", products.len());
        masses.sort_unstable();
        let median = masses[masses.len() / 2];
        assert!((1_100..=1_600).contains(&median), "median mass {median} tenths of a gram");
        assert_eq!((masses[0], masses[masses.len() - 1]), (200, 15_000));
    }
}
