"""The compiled data plane has the interface of the plain-Python one."""

from kcpg.core.native.wire.wire import READABLE as READABLE
from kcpg.core.native.wire.wire import UNKNOWN_CONV as UNKNOWN_CONV
from kcpg.core.native.wire.wire import WRITABLE as WRITABLE
from kcpg.core.native.wire.wire import Conv as Conv
from kcpg.core.native.wire.wire import LinkWire as LinkWire
from kcpg.core.native.wire.wire import Wire as Wire
