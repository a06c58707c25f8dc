import jakarta.servlet.annotation.WebServlet;
import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import jakarta.servlet.http.HttpSession;
import java.io.IOException;

/** An application that does with sessions what servlet applications do. */
@WebServlet({"/start", "/login", "/count", "/logout", "/renew", "/away"})
public class SessionServlet extends HttpServlet {
    private static final long serialVersionUID = 1;

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        switch (request.getServletPath()) {
            case "/start" -> request.getSession(true);
            case "/login" -> {
                // Against fixation, as containers and Spring Security do it.
                request.getSession(true);
                request.changeSessionId();
            }
            case "/away" -> {
                response.sendRedirect(response.encodeRedirectURL(request.getContextPath() + "/count?x=/app"));
                return;
            }
            case "/count" -> {
                HttpSession session = request.getSession(false);
                if (session == null) {
                    response.sendError(401);
                    return;
                }
                Integer count = (Integer) session.getAttribute("count");
                session.setAttribute("count", count == null ? 1 : count + 1);
            }
            case "/logout" -> {
                HttpSession session = request.getSession(false);
                if (session != null) {
                    session.invalidate();
                }
            }
            default -> {
                HttpSession session = request.getSession(false);
                if (session != null) {
                    session.invalidate();
                }
                request.getSession(true);
            }
        }
        HttpSession session = request.getSession(false);
        Object count = session == null ? null : session.getAttribute("count");
        response.setContentType("application/json");
        response.getWriter()
                .printf(
                        "{\"backend\":\"%s\",\"context\":\"%s\",\"known\":%s,\"count\":%s}",
                        System.getProperty("instance"), request.getContextPath(), session != null, count);
    }
}
