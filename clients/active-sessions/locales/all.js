// Put together from clients/active-sessions/src by build.py there: change that.
import "./ar.js";
import "./de.js";
import "./es.js";
import "./fr.js";
import "./it.js";
import "./ja.js";
import "./ko.js";
import "./nl.js";
import "./pl.js";
import "./pt-BR.js";
import "./zh-Hans.js";
