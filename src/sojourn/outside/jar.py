"""The old name of `sojourn.doctor.browser.jar`."""

from sojourn.doctor.browser.jar import Cookie as Cookie
from sojourn.doctor.browser.jar import Jar as Jar
from sojourn.doctor.browser.jar import drops as drops
from sojourn.doctor.browser.jar import read as read
