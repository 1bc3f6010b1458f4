"""Country names as shops write them become codes of ISO 3166; anything else is refused."""

from __future__ import annotations

import pytest

from storekeep.imports.columns import InvalidCell
from storekeep.imports.countries import parse_region_code

NAMES = """
AE United Arab Emirates|UAE
AF Afghanistan
AG Antigua & Barbuda|Antigua and Barbuda
AI Anguilla
AL Albania
AO Angola
AQ Antarctica
AR Argentina
AS American Samoa
AT Austria|Österreich
AX Åland Islands|Aland Islands
BA Bosnia & Herzegovina|Bosnia and Herzegovina|Bosnia
BB Barbados
BD Bangladesh
BE Belgium|België|Belgique
BF Burkina Faso
BG Bulgaria
BI Burundi
BL St. Barthélemy|Saint Barthelemy
BN Brunei|Brunei Darussalam
BO Bolivia|Bolivia, Plurinational State of
BQ Caribbean Netherlands|Bonaire, Saint Eustatius and Saba
BS The Bahamas|Bahamas
BY Belarus
CC Cocos (Keeling) Islands
CD Congo - Kinshasa|Congo (Kinshasa)|DR Congo|Democratic Republic of the Congo
CF Central African Republic
CG Congo - Brazzaville|Congo (Brazzaville)|Republic of the Congo
CH Switzerland|Schweiz|Suisse
CI Côte d\u2019Ivoire|Ivory Coast|Cote d'Ivoire
CN China|People's Republic of China
CV Cape Verde|Cabo Verde
CW Curaçao|Curacao
CZ Czech Republic|Czechia
DE Germany|Deutschland
DO Dominican Republic
ES Spain
FK Falkland Islands|Falkland Islands (Malvinas)
FM Micronesia|Micronesia, Federated States of
FO Faroe Islands
GB United Kingdom|United Kingdom (UK)|UK|U.K.|Great Britain|England|Scotland|Wales|Northern Ireland
GM The Gambia|Gambia
GS South Georgia & South Sandwich Islands|South Georgia/Sandwich Islands
GW Guinea-Bissau
HK Hong Kong|Hong Kong SAR|Hong Kong SAR China
HM Heard & McDonald Islands
IE Ireland|EIRE|Republic of Ireland
IM Isle of Man
IR Iran|Iran, Islamic Republic of
KG Kyrgyzstan|Kyrgyz Republic
KN St. Kitts & Nevis|Saint Kitts and Nevis
KP North Korea|Korea, Democratic People's Republic of
KR South Korea|Korea, Republic of|Republic of Korea
LA Laos|Lao People's Democratic Republic
LC St. Lucia|Saint Lucia
MD Moldova|Republic of Moldova|Moldova, Republic of
MF St. Martin|Saint Martin (French part)
MK North Macedonia|Macedonia|Macedonia, the former Yugoslav Republic of
MM Myanmar (Burma)|Burma
MO Macau|Macao|Macao SAR|Macao SAR China
NL Netherlands|The Netherlands|Holland
PM St. Pierre & Miquelon
PN Pitcairn Islands|Pitcairn
PS Palestinian Territories|Palestine|Palestinian Territory|Palestine, State of
PW Belau|Palau
RE Réunion|Reunion
RU Russia|Russian Federation
SH St. Helena|Ascension Island
SJ Svalbard & Jan Mayen|Svalbard and Jan Mayen
SK Slovakia|Slovak Republic
ST São Tomé & Príncipe|Sao Tome and Principe
SX Sint Maarten|Saint Martin (Dutch part)
SY Syria|Syrian Arab Republic
SZ Eswatini|Swaziland
TC Turks & Caicos Islands
TF French Southern Territories
TL Timor-Leste|East Timor
TR Türkiye|Turkiye|Turkey
TT Trinidad & Tobago
TW Taiwan|Taiwan, Province of China
TZ Tanzania|Tanzania, United Republic of
UM U.S. Outlying Islands|United States (US) Minor Outlying Islands
US United States|United States (US)|USA|U.S.A.|US|united states of america|The United States
VA Vatican City|Vatican|Holy See (Vatican City State)
VC St. Vincent & Grenadines|Saint Vincent and the Grenadines
VE Venezuela|Venezuela, Bolivarian Republic of
VG British Virgin Islands|Virgin Islands (British)
VI U.S. Virgin Islands|Virgin Islands (US)|Virgin Islands, U.S.
VN Vietnam|Viet Nam
WF Wallis & Futuna
XK Kosovo
ZA South Africa|RSA
"""
CASES = [(name, line[:2]) for line in NAMES.strip().splitlines() for name in line[3:].split("|")]


def test_names_that_shops_use_are_resolved() -> None:
    assert len(CASES) >= 145
    resolved = {name: parse_region_code(name) for name, _ in CASES}
    assert resolved == dict(CASES)


@pytest.mark.parametrize("name", ["Atlantis", "Korea", "Virgin Islands", "XX", "St. Nowhere", "", "EU", "Congos"])
def test_name_that_is_not_on_the_list_is_refused(name: str) -> None:
    with pytest.raises(InvalidCell):
        parse_region_code(name)
